import { expect, it } from 'vitest';
import type { CallRecord } from '#contract/call.ts';
import { VirtualClock } from '#kit/clock.ts';
import type { Link } from './link-server.ts';
import { Recalls } from './recall.ts';

const call = (id: string): CallRecord => ({
  id,
  t: 1,
  gateway: 'g',
  namespace: 'default',
  name: 'hello',
  method: 'GET',
  path: '/',
  status: 200,
  totalMs: 1,
});

function gateways(count: number) {
  const asked: string[] = [];
  const links: Link[] = Array.from({ length: count }, (_, n) => ({
    key: `g${n}`,
    pid: n,
    send: (message) => void asked.push(`${n} ${message.type}`),
  }));
  return { asked, links };
}

it('gathers what all gateways answer', async () => {
  const { asked, links } = gateways(2);
  const recalls = new Recalls(new VirtualClock());
  const answer = recalls.ask(links, 'a');
  expect(recalls.ask(links, 'a')).toBe(answer);
  recalls.answered(links[0]!, 'a', [call('a')]);
  // Twice from one, and of what nobody asked for: no answer.
  recalls.answered(links[0]!, 'a', [call('a')]);
  recalls.answered(links[1]!, 'b', [call('b')]);
  recalls.answered(links[1]!, 'a', []);
  expect(await answer).toEqual([call('a')]);
  expect(asked).toEqual(['0 recall', '1 recall']);
});

it('waits for no gateway that does not answer', async () => {
  const { links } = gateways(2);
  const clock = new VirtualClock();
  const recalls = new Recalls(clock);
  const answer = recalls.ask(links, 'a');
  recalls.answered(links[1]!, 'a', [call('a')]);
  clock.advance(500);
  expect(await answer).toHaveLength(1);
  expect(await recalls.ask([], 'a')).toEqual([]);
});
