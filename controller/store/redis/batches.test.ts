import { describe, expect, it } from 'vitest';
import { Batches, PART, partsOf } from './batches.ts';
import type { RedisValue } from './connection.ts';

const numbers = (count: number, from = 0): number[] => Array.from({ length: count }, (_, i) => from + i);
const part = (args: RedisValue[]) => ({ args, items: args.length, bytes: args.length });

describe('parts', () => {
  it('hold so many items, or so many bytes, in their order', () => {
    const items = numbers(PART.items * 2 + 3);
    const parts = partsOf(items, (item) => [item]);
    expect(parts.map((found) => found.items)).toEqual([PART.items, PART.items, 3]);
    expect(parts.flatMap(({ args }) => args)).toEqual(items);
  });

  it('one that is too long is a part by itself', () => {
    const long = 'x'.repeat(PART.bytes + 1);
    expect(partsOf(['a', long, 'b'], (item) => [item]).map(({ args }) => args)).toEqual([['a'], [long], ['b']]);
  });

  it('of nothing are none', () => {
    expect(partsOf([], () => [])).toEqual([]);
  });
});

describe('batches', () => {
  it('what comes in one turn goes together, and each is told its own', async () => {
    const sent: RedisValue[][] = [];
    const batches = new Batches(async (_, args) => {
      sent.push(args);
      return args.map((arg) => `told ${String(arg)}`);
    });
    expect(await Promise.all([batches.add('g', part([1, 2])), batches.add('g', part([3])), batches.add('g', part([4]))])).toEqual([
      ['told 1', 'told 2'],
      ['told 3'],
      ['told 4'],
    ]);
    expect(sent).toEqual([[1, 2, 3, 4]]);
  });

  it('not with another group, and not more than a script can take', async () => {
    const sent: [string, number][] = [];
    const batches = new Batches(async (group, args) => {
      sent.push([group, args.length]);
      return args;
    });
    const calls = [
      ['a', 300],
      ['a', 200],
      ['a', 1],
      ['b', 1],
      ['a', 1],
    ] as const;
    await Promise.all(calls.map(([group, count]) => batches.add(group, part(numbers(count)))));
    expect(sent).toEqual([
      ['a', 500],
      ['a', 1],
      ['b', 1],
      ['a', 1],
    ]);
  });

  it('one that fails fails for those in it only', async () => {
    const batches = new Batches(async (group, args) => {
      if (group === 'broken') throw new Error('broken');
      return args;
    });
    const told = await Promise.allSettled(['broken', 'broken', 'whole'].map((group) => batches.add(group, part([1]))));
    expect(told.map(({ status }) => status)).toEqual(['rejected', 'rejected', 'fulfilled']);
  });
});
