import { describe, expect, it } from 'vitest';
import { HeldMessages } from './trigger-held.ts';
import { sourceMessage } from './trigger-testing.ts';

describe('messages that are held', () => {
  it('that come a second time are the same one: the newest delivery is to be acknowledged', () => {
    const held = new HeldMessages(3);
    const first = sourceMessage('a', 'data');
    const one = held.take(first, 1);
    const again = sourceMessage('a', 'data', { deliveries: 2 });
    expect(held.take(again, 2)).toBeNull();
    expect(held.messages).toEqual([again]);
    expect(one).toMatchObject({ message: again, older: [first], readyAt: 1, attempts: 0 });
  });

  it('with the same id and other data, or of another source, are others', () => {
    const held = new HeldMessages(3);
    const taken = [sourceMessage('a', 'data'), sourceMessage('a', 'other'), sourceMessage('a', 'data', { source: 'memory://second' })];
    expect(new Set(taken.map((message) => held.take(message, 1)?.key)).size).toBe(3);
    expect(held.messages).toEqual(taken);
  });

  it('count the deliveries before this one as attempts, but for one that they get here', () => {
    const attemptsOf = (deliveries: number) => new HeldMessages(3).take(sourceMessage('a', '', { deliveries }), 1)?.attempts;
    expect([0, 1, 2, 3, 9].map(attemptsOf)).toEqual([0, 0, 1, 2, 2]);
  });

  it('are 64 MiB at most, and one that is longer; what is done with makes room, once', () => {
    const held = new HeldMessages(3);
    const one = held.take(sourceMessage('long', new Uint8Array(65 * 1024 * 1024)), 1);
    expect(held.room).toBe(0);
    expect(held.forget(one!)).toBe(true);
    expect(held.forget(one!)).toBe(false);
    expect(held.size).toBe(0);
    // As many as fit where they are a tenth as long.
    expect(held.room).toBe(9);
  });

  it('are 10,000 at most, however short', () => {
    const held = new HeldMessages(3);
    for (let number = 0; number < 10_000; number++) held.take(sourceMessage(String(number), '.'), 1);
    expect(held.room).toBe(0);
    held.clear();
    expect(held.room).toBe(10_000);
  });
});
