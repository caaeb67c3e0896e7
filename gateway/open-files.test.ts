import { describe, expect, it } from 'vitest';
import { connectionsWithin, mostOpenFiles, ownMostOpenFiles } from './open-files.ts';

const limits = (soft: string) => `Limit                     Soft Limit           Hard Limit           Units
Max processes             unlimited            unlimited            processes
Max open files            ${soft.padEnd(21)}1048576              files
Max locked memory         65536                65536                bytes
`;

describe('files that a process may have open', () => {
  it('are read from what the kernel says', () => {
    expect(mostOpenFiles(limits('20000'))).toBe(20_000);
    expect(mostOpenFiles(limits('unlimited'))).toBe(Infinity);
    expect(mostOpenFiles('Max processes 5 5\n')).toBeNull();
    expect(ownMostOpenFiles()).toBeGreaterThan(100);
  });

  it.each([
    ['as many as are wanted, where there is room', 1_048_576, 25_000, 1, 25_000],
    ['two files for each, and some for all else', 20_000, 25_000, 1, 9_872],
    ['shared by the listeners', 20_000, 25_000, 2, 4_936],
    ['what was asked for, where that is less', 20_000, 500, 2, 500],
    ['one, where there is no room', 100, 25_000, 1, 1],
    ['as many as are wanted, without a limit', Infinity, 25_000, 1, 25_000],
    ['as many as are wanted, where nobody knows', null, 25_000, 1, 25_000],
  ])('give connections: %s', (_what, files, wanted, listeners, expected) => {
    expect(connectionsWithin(files, { wanted, listeners })).toBe(expected);
  });
});
