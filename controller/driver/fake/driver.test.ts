import { describe, expect, it } from 'vitest';
import { VirtualClock } from '#kit/clock.ts';
import type { CreateSpec, Exit } from '../types.ts';
import { createFakeDriver } from './driver.ts';
import { FakeHost } from './host.ts';

const spec: CreateSpec = {
  id: 'i-abcdefghijkl',
  runtime: 'node',
  memoryClassMib: 128,
  network: 'none',
  image: null,
  sandbox: null,
  nonce: 'n',
};
const never = new AbortController().signal;

describe('the fake driver in virtual time', () => {
  it('takes the time it is told to', async () => {
    const clock = new VirtualClock();
    const host = new FakeHost({ clock, latencyMs: { create: 300 } });
    const driver = createFakeDriver({ host });
    let done = false;
    const creating = driver.create(spec, never).then(() => (done = true));
    await Promise.resolve();
    clock.advance(299);
    await Promise.resolve();
    expect(done).toBe(false);
    clock.advance(1);
    await creating;
    expect((await driver.list()).map(({ id, running }) => ({ id, running }))).toEqual([{ id: spec.id, running: true }]);
  });

  it('fails as it is told to, and leaves nothing', async () => {
    const host = new FakeHost({ clock: new VirtualClock() });
    const driver = createFakeDriver({ host });
    host.failNext('create', new Error('no space'));
    await expect(driver.create(spec, never)).rejects.toThrow('no space');
    expect(await driver.list()).toEqual([]);
    await driver.create(spec, never);
    expect(host.calls.map(({ operation }) => operation)).toEqual(['create', 'list', 'create']);
  });

  it('ends when it is told to, once, and not after close()', async () => {
    const host = new FakeHost({ clock: new VirtualClock() });
    const driver = createFakeDriver({ host });
    const exits: Exit[] = [];
    driver.onExit((exit) => void exits.push(exit));
    await driver.start();
    await driver.create(spec, never);
    host.end(spec.id, 'oom', 'too much');
    host.end(spec.id);
    expect(exits).toEqual([{ id: spec.id, cause: 'oom', detail: 'too much' }]);
    await driver.create({ ...spec, id: 'i-000000000000' }, never);
    await driver.close();
    host.end('i-000000000000');
    expect(exits).toHaveLength(1);
  });
});
