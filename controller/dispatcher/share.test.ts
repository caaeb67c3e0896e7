import { expect, it } from 'vitest';
import { Share } from './share.ts';

function fill(share: Share, namespace: string, size = 1): number {
  let taken = 0;
  while (share.takes(namespace, size)) {
    share.add(namespace, size);
    taken += 1;
  }
  return taken;
}

it('one namespace gets half of it, and who comes anew half of the rest', () => {
  const share = new Share({ count: 1_000, bytes: 1e9 });
  expect([fill(share, 'a'), fill(share, 'b'), fill(share, 'c')]).toEqual([500, 250, 125]);
  expect(share.room('a')).toBe(0);
});

it('by bytes, too', () => {
  const share = new Share({ count: 1_000, bytes: 100 });
  expect([fill(share, 'a', 10), fill(share, 'b', 10)]).toEqual([5, 3]);
  expect([share.takes('c', 20), share.takes('c', 21)]).toEqual([true, false]);
});

it('what is given back is for all again', () => {
  const share = new Share({ count: 8, bytes: 100 });
  fill(share, 'a', 1);
  for (let one = 0; one < 4; one += 1) share.remove('a', 1);
  expect([share.count, share.room('a'), fill(share, 'b', 1)]).toEqual([0, 4, 4]);
});
