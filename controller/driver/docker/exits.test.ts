/** What is told of an end that the engine has heard of before it heard why. */
import { expect, it } from 'vitest';
import { silentLog } from '#kit/log.ts';
import { stubEngine } from '../../../test/helpers/engine-stub.ts';
import type { Exit } from '../types.ts';
import { connectEngine } from './engine.ts';
import { Exits } from './exits.ts';
import { newKnown } from './instance.ts';

const CONTAINER = 'c0ffee';
const killed = (oom: boolean) => ({ ExitCode: 137, OOMKilled: oom });

/** The end of an instance, where the engine says these states of it in turn, the last of them for ever; null: it has gone. */
async function endOf(states: ({ ExitCode: number; OOMKilled: boolean } | null)[]): Promise<{ told: Exit[]; asked: number }> {
  const { socketPath, asked } = await stubEngine((what) => {
    if (what !== `GET /containers/${CONTAINER}/json`) return undefined;
    const State = states.length > 1 ? states.shift() : states[0];
    return State === null ? { status: 404, body: { message: 'no such container' } } : { status: 200, body: { Id: CONTAINER, State } };
  });
  const exits = new Exits(silentLog);
  await exits.start(await connectEngine(socketPath), null);
  const told: Exit[] = [];
  exits.onExit((exit) => told.push(exit));
  const known = newKnown('i-1', 128, 'none');
  known.container = CONTAINER;
  known.phase = 'running';
  await exits.ended(known, 137, false);
  return { told, asked: asked.filter((what) => what.includes(CONTAINER)).length };
}

it('out of memory, of which the engine hears a moment after the end', async () => {
  const { told, asked } = await endOf([killed(false), killed(true)]);
  expect(told).toEqual([{ id: 'i-1', cause: 'oom', detail: 'killed by the kernel at its memory limit' }]);
  expect(asked).toBe(2);
});

it('out of memory, where the engine knows it: it is asked once', async () => {
  const { told, asked } = await endOf([killed(true)]);
  expect([told[0]?.cause, asked]).toEqual(['oom', 1]);
});

it('killed by somebody: asked again, it is still no lack of memory', async () => {
  const { told, asked } = await endOf([killed(false)]);
  expect([told, asked]).toEqual([[{ id: 'i-1', cause: 'exit', detail: 'signal SIGKILL' }], 2]);
});

it('a container that has gone when it is asked for again', async () => {
  expect((await endOf([killed(false), null])).told).toEqual([
    { id: 'i-1', cause: 'lost', detail: 'the container was removed from outside' },
  ]);
});
