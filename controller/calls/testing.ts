/** Makers of calls for tests of what keeps and explains them. */
import type { CallRecord } from '#contract/call.ts';

/** A request for `default/hello` that was answered with 200 in 5 ms. */
export const testCall = (id: string, overrides: Partial<CallRecord> = {}): CallRecord => ({
  id,
  t: 0,
  gateway: 'g',
  namespace: 'default',
  name: 'hello',
  method: 'GET',
  path: '/',
  status: 200,
  totalMs: 5,
  ...overrides,
});
