import { expect, it } from 'vitest';
import { stubEngine } from '../../test/helpers/engine-stub.ts';
import { heldNetwork } from './held-network.ts';

const HOME = '0a1b2c3d';
const QUESTION = `GET /networks?filters=${encodeURIComponent(JSON.stringify({ label: [`fn.home=${HOME}`] }))}`;

it.each([
  ['one that is there', { status: 200, body: [{ Name: `fn-${HOME}` }] }, `fn-${HOME}`],
  ['none', { status: 200, body: [] }, null],
  ['an engine that does not know', { status: 500, body: { message: 'busy' } }, null],
])('the network that Docker holds: %s', async (_what, answer, held) => {
  const { socketPath } = await stubEngine((asked) => (asked === QUESTION ? answer : undefined));
  expect(await heldNetwork(HOME, { DOCKER_HOST: `unix://${socketPath}` })).toBe(held);
});

it('is not looked for where there is no engine', async () => {
  expect(await heldNetwork(HOME, { DOCKER_HOST: 'unix:///nonexistent/s' })).toBeNull();
});
