import { appendFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseStat, processStart } from './identity.ts';
import { ProcessOutput } from './output.ts';

let dir: string;
beforeEach(() => void (dir = mkdtempSync(join(tmpdir(), 'fn-output-'))));
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const readAll = async (output: ProcessOutput, after: string | null) => {
  const text = { stdout: '', stderr: '' };
  let position = after;
  for await (const chunk of output.follow(after, () => true, new AbortController().signal)) {
    text[chunk.stream] += chunk.data.toString();
    position = chunk.position;
  }
  return { ...text, position };
};

describe('ProcessOutput', () => {
  it('goes on from a position, through being put aside', async () => {
    const output = new ProcessOutput(dir);
    appendFileSync(join(dir, 'stdout'), 'one\n');
    appendFileSync(join(dir, 'stderr'), 'bad\n');
    const first = await readAll(output, null);
    expect(first).toMatchObject({ stdout: 'one\n', stderr: 'bad\n' });
    appendFileSync(join(dir, 'stdout'), 'two\n');
    await output.rotate(4);
    appendFileSync(join(dir, 'stdout'), 'three\n');
    expect(await readAll(output, first.position)).toMatchObject({ stdout: 'two\nthree\n', stderr: '' });
    expect(await readAll(output, null)).toMatchObject({ stdout: 'one\ntwo\nthree\n', stderr: 'bad\n' });
  });

  it('goes on with what is left when more was written than is kept', async () => {
    const output = new ProcessOutput(dir);
    for (const text of ['first.', 'second', 'third.']) {
      appendFileSync(join(dir, 'stdout'), text);
      await output.rotate(4);
    }
    appendFileSync(join(dir, 'stdout'), '!');
    expect(await readAll(output, '2.0')).toMatchObject({ stdout: 'third.!', position: '19.0' });
    const lost: (number | undefined)[] = [];
    for await (const chunk of output.follow('2.0', () => true, new AbortController().signal)) lost.push(chunk.lostBytes);
    // `first.` but for two of its bytes, and `second`.
    expect(lost).toEqual([10, undefined]);
  });

  it('ends when it is aborted, and refuses a position that is none', async () => {
    const output = new ProcessOutput(dir);
    const abort = new AbortController();
    setTimeout(() => abort.abort(), 10);
    for await (const chunk of output.follow(null, () => false, abort.signal)) expect(chunk).toBeUndefined();
    await expect(readAll(output, 'there')).rejects.toThrow('not a position');
  });
});

describe('processStart', () => {
  it('tells a process from the one that has its pid later', () => {
    expect(processStart(process.pid)).toBe(processStart(process.pid));
    expect(processStart(process.pid)).not.toBeNull();
    expect(processStart(2 ** 22 + 1)).toBeNull();
  });

  it('finds its field whatever the program is called, and takes a zombie for dead', () => {
    const fields = (state: string) => `42 (a) b) c) ${state} ${Array.from({ length: 18 }, (_unused, index) => index + 4).join(' ')} 777 23`;
    expect(parseStat(fields('S'))).toBe('777');
    expect(parseStat(fields('Z'))).toBeNull();
  });
});
