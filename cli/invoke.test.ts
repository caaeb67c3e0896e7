import { expect, it } from 'vitest';
import { requestPath } from './invoke.ts';

it.each([
  ['/', '/'],
  ['users/1', '/users/1'],
  ['?limit=3', '/?limit=3'],
  ['/ä b?x=ü 1', '/%C3%A4%20b?x=%C3%BC%201'],
  ['/a%20b?x=%25&y=[1]', '/a%20b?x=%25&y=[1]'],
  ['/😀', '/%F0%9F%98%80'],
  ['/half\ud83d', '/half%EF%BF%BD'],
])('the path %j is sent as %j', (typed, sent) => {
  expect(requestPath(typed)).toBe(sent);
});
