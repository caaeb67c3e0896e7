import { describe, expect, it } from 'vitest';
import { type Held, TriggerQueue } from './trigger-queue.ts';
import { sourceMessage } from './trigger-testing.ts';

function held(number: number, orderKey: string | null = 'k'): Held {
  const message = sourceMessage(String(number), '.', { orderKey });
  const times = { attempts: 0, firstAt: null, readyAt: 0, dueAt: 0 };
  return { number, message, older: [], key: String(number), ...times, alone: false, request: null };
}

const queue = () => new TriggerQueue({ batchSize: 1, windowMs: 0, maxBytes: 1_000, now: () => 1, after: () => () => {}, wake: () => {} });
const taken = (of: TriggerQueue) => {
  const next = of.take();
  return next !== null && 'batch' in next ? next.batch.map(({ number }) => number) : [];
};

describe('messages with one order key', () => {
  it('go one after the other, also when another one of the key is given up that never was in the queue', () => {
    const one = queue();
    const [first, second] = [held(1), held(2)];
    one.add(first);
    one.add(second);
    // Too large, say: it is a dead letter at once.
    one.over(held(3));
    expect(taken(one)).toEqual([1]);
    expect(taken(one)).toEqual([]);
    one.over(held(4));
    expect(taken(one)).toEqual([]);
    one.over(first);
    expect(taken(one)).toEqual([2]);
  });

  it('keep their turn while the first of them waits for its next attempt', () => {
    const one = queue();
    const [first, second] = [held(1), held(2)];
    one.add(first);
    expect(taken(one)).toEqual([1]);
    one.add(second);
    first.dueAt = 50;
    one.again(first);
    one.over(held(3));
    expect(taken(one)).toEqual([]);
  });
});
