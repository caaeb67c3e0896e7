import { describe, expect, it } from 'vitest';
import { prefersAsync, readEventOptions } from './prefer.ts';

describe('Prefer', () => {
  it.each([
    'respond-async',
    'Respond-Async',
    ' respond-async ',
    'wait=10, respond-async',
    'respond-async, wait=10',
    'respond-async;p=1',
    'respond-async ; p="a,b" ;q',
    'respond-async=""',
    'return=minimal,,respond-async',
    'x="a, \\" b", respond-async',
  ])('%s asks for 202', (prefer) => expect(prefersAsync(prefer)).toBe(true));

  it.each([
    '',
    'wait=10',
    'respond-async=5',
    'respond-async=false, respond-async',
    'x-respond-async',
    'return=respond-async',
    'x="respond-async"',
    'x="a, respond-async, b"',
    'x;respond-async',
    'x="unterminated, respond-async',
  ])('%s does not', (prefer) => expect(prefersAsync(prefer)).toBe(false));

  // Some milliseconds for a million characters; where each looked at all the others, it would be minutes.
  it('is read in time that its length allows', { timeout: 60_000 }, () => {
    const length = 1_000_000;
    for (const hostile of [','.repeat(length), `x=${' '.repeat(length)}y`, `"${'\\"'.repeat(length / 2)}`])
      expect(prefersAsync(hostile)).toBe(false);
  });
});

describe('headers of an invocation', () => {
  it.each([
    ['90', 90_000],
    ['1.5', 1_500],
    ['30s', 30_000],
    ['5m', 300_000],
    ['2h', 7_200_000],
    ['14d', 1_209_600_000],
    ['0', 0],
  ])('a delay of %s is %i ms', (text, ms) => expect(readEventOptions(['Fn-Delay', text])).toMatchObject({ delayMs: ms }));

  it('that are not there', () => {
    expect(readEventOptions(['Accept', '*/*'])).toEqual({ idempotencyKey: null, delayMs: 0, orderKey: null });
  });

  it('keys, as they came', () => {
    expect(readEventOptions(['Idempotency-Key', '"8e03"', 'FN-ORDER-KEY', 'user/7'])).toEqual({
      idempotencyKey: '"8e03"',
      delayMs: 0,
      orderKey: 'user/7',
    });
  });

  it.each([
    [['fn-delay', '-1'], /fn-delay must be/],
    [['fn-delay', 'soon'], /fn-delay must be/],
    [['fn-delay', ''], /fn-delay must be/],
    [['fn-delay', '15d'], /fn-delay must be/],
    [['fn-delay', '1e9'], /fn-delay must be/],
    [['fn-delay', 'NaN'], /fn-delay must be/],
    [['fn-delay', '5 m'], /fn-delay must be/],
    [['fn-delay', '1', 'Fn-Delay', '1'], /more than one fn-delay/],
    [['idempotency-key', ''], /idempotency-key must be/],
    [['idempotency-key', 'a b'], /idempotency-key must be/],
    [['idempotency-key', 'é'], /idempotency-key must be/],
    [['idempotency-key', 'x'.repeat(257)], /idempotency-key must be/],
    [['idempotency-key', 'a', 'Idempotency-Key', 'a'], /more than one idempotency-key/],
    [['fn-order-key', 'x'.repeat(257)], /fn-order-key must be/],
    [['fn-order-key', 'a', 'fn-order-key', 'b'], /more than one fn-order-key/],
  ])('%j is refused', (raw, message) => expect(readEventOptions(raw)).toMatch(message));
});
