import { expect, it } from 'vitest';
import { beyond } from './deleted.ts';

const of = (namespace: string, count: number, at = 0) =>
  Array.from({ length: count }, (_, index) => ({ key: `${namespace}/f${index}`, at: at + index }));

it('of deleted functions that are too many go those deleted first, of whoever has most: nobody pushes out what another has used', () => {
  const shop = of('shop', 2);
  const blog = of('blog', 3, 10);
  const greedy = of('greedy', 100, 1_000);
  expect(beyond([...shop, ...greedy, ...blog], 105)).toEqual([]);
  expect(beyond([...shop, ...greedy, ...blog], 103)).toEqual(['greedy/f0', 'greedy/f1']);
  // When it has no more than another, that one's go as well.
  const left = new Set([...shop, ...greedy, ...blog].map(({ key }) => key));
  for (const key of beyond([...shop, ...greedy, ...blog], 6)) left.delete(key);
  expect([...left]).toEqual(['shop/f0', 'shop/f1', 'greedy/f98', 'greedy/f99', 'blog/f1', 'blog/f2']);
});
