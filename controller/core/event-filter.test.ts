import { describe, expect, it } from 'vitest';
import { checkFilter, matches } from './event-filter.ts';

const event = {
  id: '7',
  type: 'order.paid',
  subject: null,
  color: 'Red',
  data: { status: 'paid', amount: 120.5, tags: ['new', 'eu'], lines: [{ sku: 'a' }, { sku: 'b' }], note: null, country: 'DE' },
};

describe('a filter', () => {
  it.each<[string, object]>([
    ['one of the values', { data: { status: ['open', 'paid'] } }],
    ['a number', { data: { amount: [120.5] } }],
    ['null', { data: { note: [null] }, subject: [null] }],
    ['one of a list', { data: { tags: ['eu'] } }],
    ['an object of a list', { data: { lines: { sku: ['b'] } } }],
    ['prefix', { type: [{ prefix: 'order.' }] }],
    ['suffix', { type: [{ suffix: '.paid' }] }],
    ['any case', { color: [{ 'equals-ignore-case': 'rEd' }] }],
    ['anything but', { data: { country: [{ 'anything-but': ['XX', 'YY'] }], amount: [{ 'anything-but': 7 }] } }],
    ['exists', { data: { status: [{ exists: true }] } }],
    ['does not exist', { data: { gone: [{ exists: false }], deep: { er: [{ exists: false }] } } }],
    ['a range', { data: { amount: [{ numeric: ['>', 100, '<=', 120.5] }] } }],
    ['a rule or a value', { data: { amount: ['x', { numeric: ['=', 120.5] }] } }],
  ])('matches: %s', (_what, filter) => {
    expect(checkFilter(filter)).toBeNull();
    expect(matches({ ...filter }, event)).toBe(true);
  });

  it.each<[string, object]>([
    ['another value', { data: { status: ['open'] } }],
    ['a text is no number', { data: { amount: ['120.5'] } }],
    ['both fields must match', { type: ['order.paid'], data: { status: ['open'] } }],
    ['none of the list', { data: { tags: ['us'] } }],
    ['one of the list is excluded', { data: { tags: [{ 'anything-but': 'eu' }] } }],
    ['what is not there is not anything but', { data: { gone: [{ 'anything-but': 'x' }] } }],
    ['it is there', { data: { status: [{ exists: false }] } }],
    ['it is not there', { data: { gone: [{ exists: true }] } }],
    ['out of range', { data: { amount: [{ numeric: ['>', 100, '<', 120.5] }] } }],
    ['numeric of a text', { data: { status: [{ numeric: ['>', 0] }] } }],
    ['a field of a text', { type: { deeper: ['x'] } }],
    ['names of Object are no fields', { data: { constructor: [{ exists: true }] } }],
  ])('does not match: %s', (_what, filter) => {
    expect(checkFilter(filter)).toBeNull();
    expect(matches({ ...filter }, event)).toBe(false);
  });

  it.each<[string, unknown, string]>([
    ['no object', [], 'must be an object'],
    ['empty', {}, 'is empty'],
    ['a bare value', { data: { status: 'paid' } }, 'data.status must be a list'],
    ['an empty list', { a: [] }, 'a is an empty list'],
    ['a list in a list', { a: [[1]] }, 'a holds [1]'],
    ['an unknown rule', { a: [{ like: 'x' }] }, 'like is no rule'],
    ['two rules in one', { a: [{ prefix: 'x', suffix: 'y' }] }, 'one name'],
    ['a prefix that is no text', { a: [{ prefix: 1 }] }, 'prefix must be text'],
    ['an operator that is none', { a: [{ numeric: ['!', 1] }] }, 'numeric must be'],
    ['half a range', { a: [{ numeric: ['>', 1, '<'] }] }, 'numeric must be'],
    ['exists of a text', { a: [{ exists: 'yes' }] }, 'exists must be'],
    ['an inner one that is empty', { data: {} }, 'data is empty'],
  ])('is refused: %s', (_what, filter, says) => {
    expect(checkFilter(filter)).toContain(says);
  });
});
