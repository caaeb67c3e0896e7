import { expect, it } from 'vitest';
import { ByteBudget } from './byte-budget.ts';

it('is used up, and of one namespace before the others', () => {
  const budget = new ByteBudget(100);
  expect([budget.take('a', 101), budget.take('a', 100), budget.take('a', 1), budget.take('b', 1)]).toEqual([false, true, false, false]);
  budget.give('a', 100);
  const taken = Array.from({ length: 10 }, () => budget.take('a', 10)).filter(Boolean);
  expect([taken.length, budget.taken, budget.take('b', 50)]).toEqual([5, 50, true]);
  budget.give('a', 50);
  budget.give('b', 50);
  expect([budget.taken, budget.take('c', 100)]).toEqual([0, true]);
});
