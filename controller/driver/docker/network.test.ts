/** The end of the bridge, with an engine that does not let go of it. */
import { expect, it } from 'vitest';
import { stubEngine, type StubAnswer } from '../../../test/helpers/engine-stub.ts';
import { connectEngine } from './engine.ts';
import { removeNetwork } from './network.ts';

const HOME = '0a1b2c3d';
const NAME = `fn-${HOME}`;
const REMOVE = `DELETE /networks/${NAME}`;
const IN_USE: StubAnswer = { status: 403, body: { message: `error while removing network: network ${NAME} id 1 has active endpoints` } };

async function engineWith(answer: Parameters<typeof stubEngine>[0]) {
  const { socketPath, asked } = await stubEngine(answer);
  return { engine: await connectEngine(socketPath), asked };
}

/** An engine whose network is removed by the answers in turn, the last of them for ever, and has these containers. */
function engineThat(removals: StubAnswer[], containers: Record<string, unknown> = {}) {
  return engineWith((asked) => {
    if (asked === `GET /networks/${NAME}`)
      return { status: 200, body: { Name: NAME, Labels: { 'fn.home': HOME }, Containers: containers, Options: {} } };
    if (asked === REMOVE) return removals.length > 1 ? removals.shift() : removals[0];
    return undefined;
  });
}

it('is removed where the engine is only late in taking the last container off it', async () => {
  const { engine, asked } = await engineThat([IN_USE, IN_USE, { status: 204 }]);
  expect(await removeNetwork(engine, HOME)).toBe('removed');
  expect(asked.filter((what) => what === REMOVE)).toHaveLength(3);
});

it('is held where the engine counts containers on it though none is: that is told, and is no failure', async () => {
  const { engine } = await engineThat([IN_USE]);
  expect(await removeNetwork(engine, HOME, 300)).toBe('held');
});

it('with a container on it that is none of ours is a failure, in the words of the engine', async () => {
  const { engine } = await engineThat([IN_USE], { c0ffee: { Name: 'somebody' } });
  await expect(removeNetwork(engine, HOME, 300)).rejects.toThrow('has active endpoints');
});

it('of another home, or that is gone already, is left alone', async () => {
  const { engine, asked } = await engineWith((what) =>
    what.includes(NAME)
      ? { status: 200, body: { Name: NAME, Labels: { 'fn.home': 'other' } } }
      : { status: 404, body: { message: 'none' } },
  );
  expect(await removeNetwork(engine, HOME)).toBe('removed');
  expect(await removeNetwork(engine, 'ffffffff')).toBe('removed');
  expect(asked.filter((what) => what.startsWith('DELETE'))).toEqual([]);
});
