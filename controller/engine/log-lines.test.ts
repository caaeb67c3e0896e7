import { describe, expect, it } from 'vitest';
import { toEntry } from './log-lines.ts';

const NOW = 1_795_000_000_000;
const entry = (line: object) => toEntry(JSON.stringify(line), 'stdout', 'default/hello@1', 'i-abcdefghijkl', NOW);

describe('a line that a function wrote by itself in the shim’s form', () => {
  it.each([1e300, -1, -8.7e15, NOW + 1])('has no time that cannot be (%d)', (t) => {
    expect(entry({ t, level: 'info', stream: 'sys', msg: 'x' }).t).toBe(NOW);
  });

  it('keeps a time that can be', () => {
    expect(entry({ t: NOW - 5.5, level: 'info', stream: 'out', msg: 'x' }).t).toBe(NOW - 5.5);
  });

  it('names no other revision or instance, and no request that could be more than an id', () => {
    const line = { t: 0, level: 'info', stream: 'out', msg: 'x', revision: 'default/other@2', instance: 'i-000000000000' };
    expect(entry({ ...line, req: 'a\n2026-11-21 sys forged' })).toEqual({
      t: 0,
      level: 'info',
      stream: 'out',
      msg: 'x',
      revision: 'default/hello@1',
      instance: 'i-abcdefghijkl',
    });
    expect(entry({ ...line, req: 'k3v9x0q2ab-1f' }).req).toBe('k3v9x0q2ab-1f');
  });
});
