import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { testRoute } from '../test/helpers/gateway-controller.ts';
import { bucketCookie, bucketOf, bucketOfCookie, BUCKETS, sharesOf, targetOf } from './traffic.ts';

const numberAt = (shares: Record<number, number>, bucket: number): number =>
  targetOf(sharesOf(testRoute('default', 'f', shares).targets), bucket).number;

describe('buckets', () => {
  it('are the same on every gateway and in every version: these values are for ever', () => {
    expect(['', 'a', 'user-1', 'user-2', 'ä'.repeat(50)].map(bucketOf)).toMatchInlineSnapshot(`
      [
        8923,
        1715,
        5916,
        1105,
        4625,
      ]
    `);
  });

  it('of values that differ little are spread evenly', () => {
    const counts = Array.from({ length: 10 }, () => 0);
    for (let user = 0; user < 20_000; user++) counts[Math.floor(bucketOf(`user-${user}`) / (BUCKETS / 10))]! += 1;
    for (const count of counts) expect(Math.abs(count - 2_000)).toBeLessThan(200);
  });

  it('property: each target has exactly its share of them', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 1, maxLength: 5 }), (weights) => {
        const shares = Object.fromEntries(weights.map((percent, index) => [index + 1, percent]));
        const rest = 100 - weights.reduce((sum, percent) => sum + percent, 0);
        fc.pre(rest >= 0);
        if (rest > 0) shares[99] = rest;
        const counts: Record<number, number> = {};
        for (let bucket = 0; bucket < BUCKETS; bucket++) {
          const number = numberAt(shares, bucket);
          counts[number] = (counts[number] ?? 0) + 1;
        }
        for (const [number, percent] of Object.entries(shares)) expect(counts[Number(number)]).toBe(percent * 100);
      }),
      { numRuns: 50 },
    );
  });

  it('shifting from one revision to the next moves those that are shifted, and no other', () => {
    const turnedBack: number[] = [];
    for (let percent = 1; percent < 99; percent++) {
      for (let bucket = 0; bucket < BUCKETS; bucket += 7) {
        const before = numberAt({ 7: 100 - percent, 8: percent }, bucket);
        const after = numberAt({ 7: 99 - percent, 8: percent + 1 }, bucket);
        if (before === 8 && after !== 8) turnedBack.push(bucket);
      }
    }
    // Whoever has seen the new one stays there.
    expect(turnedBack).toEqual([]);
  });
});

describe('the cookie', () => {
  it.each<[string, number | null]>([
    ['fn-revision=0', 0],
    ['fn-revision=9999', 9_999],
    ['a=b; fn-revision=17; c=d', 17],
    ['a=b;fn-revision=17', 17],
    ['fn-revision= 17 ', 17],
    ['fn-revision=10000', null],
    ['fn-revision=007', null],
    ['fn-revision=-1', null],
    ['fn-revision=1e3', null],
    ['fn-revision=', null],
    ['fn-revision', null],
    ['fn-revision="17"', null],
    ['xfn-revision=17', null],
    ['FN-REVISION=17', null],
    ['__proto__=1', null],
    ['', null],
    [';;;=;=', null],
    // The first one counts, be it good or not: a client cannot have two minds.
    ['fn-revision=junk; fn-revision=5', null],
    [`${'a=b; '.repeat(500)}fn-revision=5`, 5],
  ])('%j holds %j', (header, bucket) => expect(bucketOfCookie(header, 'fn-revision')).toBe(bucket));

  it('is for the function alone, and for nobody but the browser', () => {
    const sticky = { name: 'fn-revision', maxAgeSeconds: 60 };
    expect(bucketCookie(17, sticky, '/hello', false)).toBe('fn-revision=17; Path=/hello; Max-Age=60; HttpOnly; SameSite=Lax');
    expect(bucketCookie(17, sticky, '/', true)).toBe('fn-revision=17; Path=/; Max-Age=60; HttpOnly; SameSite=Lax; Secure');
  });
});
