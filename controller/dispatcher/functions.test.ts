import { describe, expect, it } from 'vitest';
import { Trigger, type TriggerInput } from '#contract/trigger.ts';
import { functionEvents } from '../../test/helpers/dispatcher-harness.ts';
import { FunctionTable } from './functions.ts';

const trigger = (input: TriggerInput) => Trigger.parse(input);
const stream = trigger({ type: 'redis-stream', name: 'in', url: 'redis://u:${secret:PW}@h:1', stream: 's' });

describe('secrets of triggers', () => {
  it('are filled in, escaped within a URL, and what is stored stays as it is', () => {
    const table = new FunctionTable();
    table.setSecrets({ 'default/PW': 'a/b@c', 'other/PW': 'x' });
    expect(table.fill('default', stream)).toMatchObject({ url: 'redis://u:a%2Fb%40c@h:1' });
    expect(stream).toMatchObject({ url: 'redis://u:${secret:PW}@h:1' });
    const sasl = { mechanism: 'plain', username: 'me-${secret:PW}', password: 'PW' } as const;
    const kafka = trigger({ type: 'kafka', name: 'k', brokers: ['h:1'], topic: 't', sasl });
    expect(table.fill('other', kafka)).toMatchObject({ sasl: { username: 'me-x', password: 'x' } });
  });

  it('of another namespace, or that are not there, are an error that names them', () => {
    const table = new FunctionTable();
    table.setSecrets({ 'default/PW': 'a' });
    expect(() => table.fill('other', stream)).toThrow(expect.objectContaining({ code: 'secret-not-found' }));
    expect(() => table.secret('default', 'constructor')).toThrow(/fn secret set constructor/);
  });

  it('that change are told of', () => {
    const table = new FunctionTable();
    table.setSecrets({ 'a/1': 'x', 'a/2': 'y', 'a/3': 'z' });
    expect([...table.setSecrets({ 'a/1': 'x', 'a/2': 'new', 'a/4': 'w' })].sort()).toEqual(['a/2', 'a/3', 'a/4']);
  });
});

describe('how an event is tried', () => {
  const table = new FunctionTable();
  const tick = trigger({ type: 'cron', name: 'tick', schedule: '* * * * *', maxAttempts: 9, maxAgeSeconds: 60 });
  const hello = functionEvents('hello', { maxAttempts: 2, onSuccess: [{ type: 'function', name: 'next' }] }, { triggers: [tick] });
  table.set([hello]);

  it('is as the function says', () => {
    expect(table.policy('default', 'hello', null)).toMatchObject({ maxAttempts: 2, retryBaseMs: 10, onSuccess: [{ name: 'next' }] });
  });
  it('is as the trigger says that brought it, and the function’s destinations are not told', () => {
    expect(table.policy('default', 'hello', 'tick')).toMatchObject({ maxAttempts: 9, maxAgeMs: 60_000, onSuccess: [], deadLetter: null });
  });
  it('is as the function says where the trigger is gone, and has defaults where that is', () => {
    expect(table.policy('default', 'hello', 'gone')).toMatchObject({ maxAttempts: 2, onSuccess: [] });
    expect(table.policy('default', 'gone', null)).toMatchObject({ maxAttempts: 3, resultMs: 3_600_000 });
  });
});
