import { mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { LogEntry } from '#contract/api.ts';
import { systemClock } from '#kit/clock.ts';
import { silentLog } from '#kit/log.ts';
import { waitFor } from '../../test/helpers/wait.ts';
import type { LogChunk } from '../driver/types.ts';
import { RawLines } from './log-lines.ts';
import { LogTail, MAX_FOLLOW_BACKLOG } from './log-tail.ts';
import { FunctionLogs, MAX_FILE_BYTES } from './logs.ts';
import { Records } from './records.ts';

const INSTANCE = 'i-aaaaaaaaaaaa';
const KEY = 'default/hello@1';

/** What an instance wrote so far; readers wait for more until it ends. */
class Output {
  readonly chunks: LogChunk[] = [];
  ended = false;
  failures = 0;
  #wake = new Set<() => void>();

  write(text: string, stream: 'stdout' | 'stderr' = 'stdout'): void {
    this.chunks.push({ stream, data: Buffer.from(text), position: String(this.chunks.length + 1) });
    this.wake();
  }

  end(): void {
    this.ended = true;
    this.wake();
  }

  wake(): void {
    for (const wake of this.#wake) wake();
  }

  read = async function* (this: Output, after: string | null, signal: AbortSignal): AsyncGenerator<LogChunk> {
    for (let next = Number(after ?? 0); !signal.aborted;) {
      if (this.failures > 0) {
        this.failures -= 1;
        throw new Error('the engine went away');
      }
      const chunk = this.chunks[next];
      if (chunk) {
        next += 1;
        yield chunk;
      } else if (this.ended) return;
      else
        await new Promise<void>((resolve) => {
          const wake = () => {
            this.#wake.delete(wake);
            resolve();
          };
          this.#wake.add(wake);
          signal.addEventListener('abort', wake, { once: true });
        });
    }
  }.bind(this);
}

let folder: string;
let records: Records;
let logs: FunctionLogs;
const make = () => new FunctionLogs({ folder: join(folder, 'logs'), records, clock: systemClock, log: silentLog });

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'fn-logs-'));
  records = new Records(join(folder, 'records'));
  await records.load();
  logs = make();
});
afterEach(async () => {
  await logs.close();
  await rm(folder, { recursive: true, force: true });
});

async function all(options: { since?: number; limit?: number } = {}): Promise<string[]> {
  const found: string[] = [];
  for await (const entry of logs.read('default', 'hello', { follow: false, ...options }, new AbortController().signal))
    found.push(entry.msg);
  return found;
}

/** Waits until there are so many lines, and says which. */
const holds = (count: number) => waitFor(`${count} lines`, async () => ((await all()).length >= count ? all() : null), { everyMs: 5 });

describe('the logs of a function', () => {
  it('keep lines of the shim with their level and request, and raw ones by their stream', async () => {
    const output = new Output();
    output.write(`${JSON.stringify({ t: 5, level: 'debug', stream: 'out', msg: 'hi', req: 'r-1' })}\nraw\n`);
    output.write('bad\n', 'stderr');
    logs.follow(INSTANCE, KEY, output.read);
    expect(await holds(3)).toEqual(['hi', 'raw', 'bad']);
    const entries: LogEntry[] = [];
    for await (const entry of logs.read('default', 'hello', { follow: false }, new AbortController().signal)) entries.push(entry);
    expect(entries).toMatchObject([
      { t: 5, level: 'debug', stream: 'out', req: 'r-1', revision: KEY, instance: INSTANCE },
      { level: 'info', stream: 'out' },
      { level: 'error', stream: 'err' },
    ]);
    expect((await all({ limit: 2 })).join()).toBe('raw,bad');
    expect((await all({ since: 6 })).join()).toBe('raw,bad');
  });

  it('go on after a restart exactly where they were, in the middle of a line too', async () => {
    const output = new Output();
    logs.follow(INSTANCE, KEY, output.read);
    output.write('one\ntw');
    expect(await holds(1)).toEqual(['one']);
    await logs.close();
    output.write('o\nthree\n');
    output.write('four');
    logs = make();
    logs.follow(INSTANCE, KEY, output.read);
    expect(await holds(3)).toEqual(['one', 'two', 'three']);
    output.end();
    expect(await holds(4)).toEqual(['one', 'two', 'three', 'four']);
  });

  it('go on where reading breaks, and lose nothing', async () => {
    const output = new Output();
    output.write('one\n');
    output.failures = 2;
    logs.follow(INSTANCE, KEY, output.read);
    expect(await holds(1)).toEqual(['one']);
    output.failures = 1;
    output.write('two\n');
    expect(await holds(2)).toEqual(['one', 'two']);
  });

  it('hear the last words of an instance that is killed, though they have no end', async () => {
    const output = new Output();
    logs.follow(INSTANCE, KEY, output.read);
    output.write('FATAL');
    await waitFor('it to be read', async () => (await records.logPosition(INSTANCE)) !== null, { everyMs: 5 });
    await logs.end(INSTANCE, false);
    expect(await all()).toEqual(['FATAL']);
  });

  it('follow two instances without mixing their lines', async () => {
    const [a, b] = [new Output(), new Output()];
    logs.follow('i-aaaaaaaaaaaa', KEY, a.read);
    logs.follow('i-bbbbbbbbbbbb', KEY, b.read);
    for (let n = 0; n < 50; n += 1) {
      a.write(`a${n}\n`);
      b.write(`b${n}\n`);
    }
    const lines = await waitFor('all lines', async () => ((await all()).length === 100 ? all() : null), { everyMs: 10 });
    expect(lines.filter((line) => line.startsWith('a'))).toEqual(Array.from({ length: 50 }, (_, n) => `a${n}`));
    expect(lines.filter((line) => line.startsWith('b'))).toEqual(Array.from({ length: 50 }, (_, n) => `b${n}`));
  });

  it('turn their file over, and a reader that is in the middle of it goes on', async () => {
    const line = 'x'.repeat(8_000);
    for (let n = 0; n * 8_000 <= MAX_FILE_BYTES - 100_000; n += 20) {
      await Promise.all(Array.from({ length: 20 }, (_, m) => logs.note(KEY, INSTANCE, 'info', `${n + m} ${line}`, 1)));
    }
    const reader = logs.read('default', 'hello', { follow: false }, new AbortController().signal);
    expect((await reader.next()).value?.msg.split(' ')[0]).toBe('0');
    for (let n = 0; n < 40; n += 1) await logs.note(KEY, INSTANCE, 'info', `later ${line}`, 1);
    expect((await stat(join(folder, 'logs/default/hello.jsonl.1'))).size).toBeGreaterThan(MAX_FILE_BYTES);
    let seen = 1;
    for await (const entry of reader) {
      expect(entry.msg.startsWith(`${seen} `)).toBe(true);
      seen += 1;
    }
    expect(seen).toBeGreaterThan(1_000);
  });
});

describe('following', () => {
  it('gives each line once and in order, however reading and writing overlap; equal lines too', async () => {
    const abort = new AbortController();
    const seen: string[] = [];
    let written = 0;
    const write = async (count: number) => {
      for (let n = 0; n < count; n += 1) await logs.note(KEY, INSTANCE, 'info', String(Math.floor(written++ / 2)), 7);
    };
    await write(100);
    const writing = write(400);
    const reading = (async () => {
      for await (const entry of logs.read('default', 'hello', { follow: true }, abort.signal)) {
        seen.push(entry.msg);
        if (seen.length === 500) abort.abort();
      }
    })();
    await Promise.all([writing, reading]);
    expect(seen).toEqual(Array.from({ length: 500 }, (_, n) => String(Math.floor(n / 2))));
  });

  it('ends when it is aborted, and when the function is deleted', async () => {
    await logs.note(KEY, INSTANCE, 'info', 'one', 1);
    const abort = new AbortController();
    const first = logs.read('default', 'hello', { follow: true }, abort.signal);
    expect((await first.next()).value?.msg).toBe('one');
    const pending = first.next();
    abort.abort();
    expect((await pending).done).toBe(true);
    const second = logs.read('default', 'hello', { follow: true }, new AbortController().signal);
    await second.next();
    const end = second.next();
    await logs.remove('default', 'hello', 1);
    expect((await end).done).toBe(true);
    await logs.note(KEY, INSTANCE, 'info', 'too late', 1);
    await expect(readFile(join(folder, 'logs/default/hello.jsonl'))).rejects.toThrow(/ENOENT/);
    await logs.note('default/hello@2', INSTANCE, 'info', 'anew', 1);
    expect(await all()).toEqual(['anew']);
  });

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
