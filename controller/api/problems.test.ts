/** What is thrown, as a client is told of it. */
import { expect, it } from 'vitest';
import { FnError } from '#contract/errors.ts';
import { DriverUnavailable } from '../driver/types.ts';
import { problemAnswer, toFnError } from './problems.ts';

it('an engine that is away is 503 in its own words, and anything unknown no more than 500', () => {
  const away = problemAnswer(toFnError(new DriverUnavailable('The Docker engine at /x is not running.')), 'r-1');
  expect([away.status, away.body.code, away.body.detail]).toEqual([503, 'start-failed', 'The Docker engine at /x is not running.']);
  expect(away.headers['retry-after']).toBe('1');
  const refused = new FnError('not-found', 'no such thing');
  expect(toFnError(refused)).toBe(refused);
  const bug = problemAnswer(toFnError(new TypeError('x is undefined')), 'r-2');
  expect([bug.status, bug.body.code]).toEqual([500, 'internal']);
  expect(bug.body.detail).not.toContain('x is undefined');
});
