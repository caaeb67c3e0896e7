import { describe, expect, it } from 'vitest';
import { readAssignments } from './env-file.ts';

describe('a file of assignments', () => {
  it('holds values, comments and values of several lines', () => {
    const text = '# of the shop\nA=1\n\n export B = two # why\nKEY="-----BEGIN\nabc\n-----END"\r\nEMPTY=\nQUOTED=\'a=b\'\nOPEN="x\n';
    expect(readAssignments(text, '.env')).toEqual({
      A: '1',
      B: 'two',
      KEY: '-----BEGIN\nabc\n-----END',
      EMPTY: '',
      QUOTED: 'a=b',
      OPEN: '"x',
    });
  });

  it.each([
    ['A=1\nB 2\n', 2],
    ['secret-value', 1],
    ['A="1\n2"\n=x', 3],
    ['A=1\n\nexport B\n', 3],
  ])('is refused with the place and without the words: %j', (text, line) => {
    const read = () => readAssignments(text, 'shop.env');
    expect(read).toThrow(`shop.env:${line} is not NAME=VALUE`);
    expect(read).not.toThrow(/secret-value/);
  });
});
