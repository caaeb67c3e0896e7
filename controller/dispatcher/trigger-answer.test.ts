import { describe, expect, it } from 'vitest';
import { outcomesOf } from './trigger-answer.ts';
import type { DeliveryResult } from './types.ts';

const answer = (body: string, more: Partial<NonNullable<DeliveryResult['response']>> = {}): DeliveryResult => ({
  requestId: null,
  revision: null,
  response: { status: 200, headers: [], body: Buffer.from(body), truncated: false, ...more },
  problem: null,
  retryAfterSeconds: null,
  waitedMs: 0,
  ranMs: 0,
});
const failed = (result: DeliveryResult, ids = ['a', 'b']) => outcomesOf(result, ids).outcomes.map(({ itemFailed }) => itemFailed);
const said = (value: unknown) => answer(JSON.stringify(value));

describe('what an answer says of the messages of a batch', () => {
  it.each([
    ['nothing', answer(''), [false, false]],
    ['text', answer('batchItemFailures: none'), [false, false]],
    ['other JSON', said({ ok: true }), [false, false]],
    ['none failed', said({ batchItemFailures: [] }), [false, false]],
    ['null, as Lambda takes it', said({ batchItemFailures: null }), [false, false]],
    ['one of them failed', said({ batchItemFailures: [{ itemIdentifier: 'b' }] }), [false, true]],
    ['one that nobody knows: better all again than one lost', said({ batchItemFailures: [{ itemIdentifier: 'c' }] }), [true, true]],
    ['one whose id is no text', said({ done: 1, batchItemFailures: [{ itemIdentifier: 7 }] }), [true, true]],
    ['some, in another form', said({ done: 1, batchItemFailures: 'b' }), [true, true]],
    ['more than is read', answer('{"done":1,"batchItemFailures":[{"itemId', { truncated: true }), [true, true]],
    ['a text about it', said('"batchItemFailures"'), [false, false]],
  ])('%s', (_, result, expected) => {
    expect(failed(result)).toEqual(expected);
  });

  it('two messages with one id fail together', () => {
    expect(failed(said({ batchItemFailures: [{ itemIdentifier: 'a' }] }), ['a', 'a', 'b'])).toEqual([true, true, false]);
  });

  it('of one alone any failure is its own, however its id is written', () => {
    const { outcomes } = outcomesOf(said({ batchItemFailures: [{ itemIdentifier: 'x y', delaySeconds: 9 }] }), ['x%20y']);
    expect(outcomes).toMatchObject([{ itemFailed: true, retryAfterSeconds: 9 }]);
  });
});
