import { describe, expect, it } from 'vitest';
import { FLUSH_ONLY } from '#contract/link.ts';
import { VirtualClock } from '#kit/clock.ts';
import { testCall } from '../calls/testing.ts';
import type { Link } from './link-server.ts';
import { Recalls } from './recall.ts';

function gateways(count: number) {
  const asked: string[] = [];
  const links: Link[] = Array.from({ length: count }, (_, n) => ({
    key: `g${n}`,
    pid: n,
    welcome: () => undefined,
    send: (message) => void asked.push(`${n} ${message.type}`),
  }));
  return { asked, links };
}

it('gathers what all gateways answer', async () => {
  const { asked, links } = gateways(2);
  const recalls = new Recalls(new VirtualClock());
  const answer = recalls.ask(links, 'a');
  expect(recalls.ask(links, 'a')).toBe(answer);
  recalls.answered(links[0]!, 'a', [testCall('a')]);
  // Twice from one, and of what nobody asked for: no answer.
  recalls.answered(links[0]!, 'a', [testCall('a')]);
  recalls.answered(links[1]!, 'b', [testCall('b')]);
  recalls.answered(links[1]!, 'a', []);
  expect(await answer).toEqual([testCall('a')]);
  expect(asked).toEqual(['0 recall', '1 recall']);
});

it('waits for no gateway that does not answer', async () => {
  const { links } = gateways(2);
  const clock = new VirtualClock();
  const recalls = new Recalls(clock);
  const answer = recalls.ask(links, 'a');
  recalls.answered(links[1]!, 'a', [testCall('a')]);
  clock.advance(500);
  expect(await answer).toHaveLength(1);
  expect(await recalls.ask([], 'a')).toEqual([]);
});

describe('flush', () => {
  it('is over when all gateways have answered', async () => {
    const { asked, links } = gateways(2);
    const recalls = new Recalls(new VirtualClock());
    let over = false;
    const flushed = recalls.flush(() => links).then(() => (over = true));
    recalls.answered(links[0]!, FLUSH_ONLY, []);
    await Promise.resolve();
    expect([over, asked]).toEqual([false, ['0 recall', '1 recall']]);
    recalls.answered(links[1]!, FLUSH_ONLY, []);
    await flushed;
  });

  it('waits for nobody long', async () => {
    const { links } = gateways(1);
    const clock = new VirtualClock();
    const flushed = new Recalls(clock).flush(() => links);
    clock.advance(250);
    await expect(flushed).resolves.toBeUndefined();
    await expect(new Recalls(clock).flush(() => [])).resolves.toBeUndefined();
  });

  it('that was asked for while another was under way is one of its own, shared by all who came meanwhile', async () => {
    const { asked, links } = gateways(1);
    const recalls = new Recalls(new VirtualClock());
    const first = recalls.flush(() => links);
    const later = [recalls.flush(() => links), recalls.flush(() => links)];
    recalls.answered(links[0]!, FLUSH_ONLY, []);
    await first;
    await expect.poll(() => asked).toHaveLength(2);
    recalls.answered(links[0]!, FLUSH_ONLY, []);
    await Promise.all(later);
    expect(asked).toHaveLength(2);
  });
});
