import { expect, it } from 'vitest';
import { topicMatches } from './properties.ts';

it.each([
  ['a/b', 'a/b', true],
  ['a/b', 'a/b/c', false],
  ['a/+', 'a/b', true],
  ['a/+', 'a', false],
  ['a/+/c', 'a/b/c', true],
  ['#', 'a/b', true],
  ['a/#', 'a', true],
  ['a/#', 'a/b/c', true],
  ['a/#', 'b', false],
  ['#', '$SYS/x', false],
  ['$share/g/a/+', 'a/b', true],
])('filter %s, topic %s: %s', (filter, topic, matches) => {
  expect(topicMatches(filter, topic)).toBe(matches);
});
