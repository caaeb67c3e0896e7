/** What only files can do wrong. That logs are kept, found and followed alike wherever they are: test/conformance/logs.test.ts. */
import { appendFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DEFAULT_ACCESS, type LogRetention } from '#contract/access.ts';
import { systemClock } from '#kit/clock.ts';
import { silentLog } from '#kit/log.ts';
import { Output } from '../../test/helpers/instance-output.ts';
import { waitFor } from '../../test/helpers/wait.ts';
import type { LogSelection } from '../api/platform.ts';
import { LogFolder } from './log-folder.ts';
import { RawLines } from './log-lines.ts';
import { LogTail, MAX_FOLLOW_BACKLOG } from './log-tail.ts';
import { FunctionLogs } from './logs.ts';
import { FileRecords } from './records.ts';

const INSTANCE = 'i-aaaaaaaaaaaa';
const KEY = 'default/hello@1';

let folder: string;
let records: FileRecords;
let logs: FunctionLogs;
let retention: LogRetention;
const make = (clock = systemClock) =>
  new FunctionLogs({ files: new LogFolder(join(folder, 'logs')), records, clock, log: silentLog, retention: () => retention });

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'fn-logs-'));
  records = new FileRecords(join(folder, 'records'));
  await records.load();
  // Lines of 1970 are the tests' own.
  retention = { ...DEFAULT_ACCESS.logs, maxAgeSeconds: Infinity };
  logs = make();
});
afterEach(async () => {
  await logs.close();
  await rm(folder, { recursive: true, force: true });
});

async function all(options: Omit<LogSelection, 'follow'> = {}): Promise<string[]> {
  const found: string[] = [];
  for await (const entry of logs.read('default', 'hello', { follow: false, ...options }, new AbortController().signal))
    found.push(entry.msg);
  return found;
}

/** Waits until there are so many lines, and says which. */
const holds = (count: number) => waitFor(`${count} lines`, async () => ((await all()).length >= count ? all() : null), { everyMs: 5 });

const segments = async () => (await readdir(join(folder, 'logs/default/hello'))).toSorted();

describe('logs in a folder', () => {
  it('includes what a version without segments left', async () => {
    await mkdir(join(folder, 'logs/default'), { recursive: true });
    const line = (msg: string) => `${JSON.stringify({ t: 5, level: 'info', stream: 'out', msg, revision: KEY, instance: INSTANCE })}\n`;
    await writeFile(join(folder, 'logs/default/hello.jsonl.1'), line('older'));
    await writeFile(join(folder, 'logs/default/hello.jsonl'), line('old') + '{"t":5,"le');
    await logs.note(KEY, INSTANCE, 'info', 'new', 6);
    expect(await all()).toEqual(['older', 'old', 'new']);
  });

  it('counts the lines that could not be written, and those after them are kept', async () => {
    await logs.note(KEY, INSTANCE, 'info', 'one', 1);
    // No file can be appended to where a folder is.
    const [name] = await segments();
    const path = join(folder, 'logs/default/hello', name!);
    const kept = await readFile(path);
    await rm(path);
    await mkdir(path);
    await expect(logs.note(KEY, INSTANCE, 'info', 'two', 2)).rejects.toThrow(/EISDIR/);
    await rm(path, { recursive: true });
    await writeFile(path, Buffer.concat([kept, Buffer.from('{"t":2,"level":"in')]));
    await logs.note(KEY, INSTANCE, 'info', 'three', 3);
    expect(await all()).toEqual(['one', 'three']);
    expect((await logs.stats('default', 'hello')).droppedLines).toBe(1);
  });
});

describe('a function that is deleted while its instances still end', () => {
  it('leaves nothing open, and nothing in the folder; the next function of its name has a log of its own', async () => {
    const output = new Output();
    output.write('one\n');
    logs.follow(INSTANCE, KEY, output.read);
    await holds(1);
    expect(logs.opened).toBe(1);
    await logs.remove('default', 'hello', 1);
    // Its last words, what the platform says of it, and one that was about to be read.
    output.write('two\n');
    await logs.end(INSTANCE, true);
    await logs.note(KEY, INSTANCE, 'info', 'it was stopped', 2);
    const late = new Output();
    late.write('three\n');
    late.end();
    logs.follow('i-bbbbbbbbbbbb', KEY, late.read);
    await logs.end('i-bbbbbbbbbbbb', true);
    expect(logs.opened).toBe(0);
    expect(await readdir(join(folder, 'logs/default')).catch(() => [])).toEqual([]);
    await logs.note('default/hello@2', INSTANCE, 'info', 'anew', 3);
    expect(logs.opened).toBe(1);
    expect(await all()).toEqual(['anew']);
  });
});

describe('a controller that is killed', () => {
  const killedAfter = async (what: 'record' | 'half the lines' | 'lines') => {
    const output = new Output();
    output.write('one\ntw');
    logs.follow(INSTANCE, KEY, output.read);
    await holds(1);
    const record = await waitFor('the record', () => records.logPosition(INSTANCE), { everyMs: 5 });
    const before = await readFile(join(folder, 'logs/default/hello', (await segments())[0]!));
    output.write('o\nthree\n');
    await holds(3);
    await logs.close();
    const after = await readFile(join(folder, 'logs/default/hello', (await segments())[0]!));
    const written = { record: before.length, 'half the lines': before.length + 40, lines: after.length }[what];
    await writeFile(join(folder, 'logs/default/hello', (await segments())[0]!), after.subarray(0, written));
    expect(record).not.toBe(await records.logPosition(INSTANCE));
    logs = make();
    output.write('four\n');
    logs.follow(INSTANCE, KEY, output.read);
    return holds(4);
  };

  it.each(['record', 'half the lines', 'lines'] as const)('once the %s was written leaves no line out and none twice', async (what) => {
    expect(await killedAfter(what)).toEqual(['one', 'two', 'three', 'four']);
  });

  it('leaves a line that was cut off to nobody', async () => {
    await logs.note(KEY, INSTANCE, 'info', 'whole', 1);
    await logs.close();
    await appendFile(join(folder, 'logs/default/hello', (await segments())[0]!), '{"t":2,"level":"info","str');
    logs = make();
    await logs.note(KEY, INSTANCE, 'info', 'next', 3);
    expect(await all()).toEqual(['whole', 'next']);
  });
});

describe('a reader that follows', () => {
  it('holds the newest lines only for one that does not read, and says so', async () => {
    const tail = new LogTail();
    for (let t = 0; t < 3 * MAX_FOLLOW_BACKLOG; t += 1)
      tail.push({ t, level: 'info', stream: 'out', msg: String(t), revision: KEY, instance: INSTANCE });
    tail.end();
    const seen: string[] = [];
    for await (const entry of tail.entries(new AbortController().signal)) seen.push(entry.msg);
    expect(seen.length).toBeLessThanOrEqual(2 * MAX_FOLLOW_BACKLOG + 1);
    expect(seen[0]).toMatch(/^\d+ lines are left out here/);
    expect(seen.at(-1)).toBe(String(3 * MAX_FOLLOW_BACKLOG - 1));
  });
});

describe('RawLines', () => {
  it('cuts a line that is too long, once, and goes on with the next', () => {
    const lines = new RawLines();
    const found = [];
    for (let n = 0; n < 100; n += 1) found.push(...lines.push(Buffer.alloc(10_000, 'x')));
    found.push(...lines.push(Buffer.from('yyy\nnext\nrest')));
    expect(found.map((line) => line.length)).toEqual([131_072, 4]);
    expect(lines.flush()).toBe('rest');
    expect(lines.flush()).toBeNull();
  });

  it('keeps characters whole that a chunk cuts', () => {
    const bytes = Buffer.from('ü✓😀\r\n');
    const lines = new RawLines();
    expect([...bytes].flatMap((byte) => lines.push(Buffer.from([byte])))).toEqual(['ü✓😀']);
  });
});
