import { describe, expect, it } from 'vitest';
import { KubeError, KubeUnreachable } from '../../kube/types.ts';
import { FakeKube } from '../../kube/fake.ts';
import { LogEntries } from './log-entries.ts';
import { LogPlace, parseStamp } from './log-place.ts';
import { followLogs, type LogSource } from './logs.ts';

const PIECE = 16_384;
const at = (second: number, nanos = 0) => `2026-11-21T15:35:${String(second).padStart(2, '0')}.${String(nanos).padStart(9, '0')}Z`;

/** What the pieces say, with a `|` where one begins with a time. */
function pieces(text: string, chunkBytes: number): string {
  const entries = new LogEntries();
  const data = Buffer.from(text);
  let all = '';
  for (let from = 0; from < data.length; from += chunkBytes)
    for (const piece of entries.push(data.subarray(from, from + chunkBytes)))
      all += `${piece.stamp === null ? '' : '|'}${piece.data.toString()}`;
  return all;
}

describe('entries of a log', () => {
  it.each([1, 7, 100_000])('come apart whatever the chunks (%i bytes)', (chunkBytes) => {
    expect(pieces(`${at(1)} one\n${at(2)} \n${at(3)} {"a":1}\n`, chunkBytes)).toBe('|one\n|\n|{"a":1}\n');
  });

  it.each([
    ['with a time each, as kubelets did', `${at(1)} ${'a'.repeat(PIECE)}${at(1, 5)} ${'b'.repeat(PIECE)}${at(1, 9)} end\n`, '|', '|'],
    ['with the first one’s only, as they do', `${at(1)} ${'a'.repeat(PIECE)}${'b'.repeat(PIECE)}end\n`, '', ''],
  ])('are joined again as they were written: pieces %s', (_, text, second, third) => {
    for (const chunkBytes of [1_000, 16_385, 100_000])
      expect(pieces(`${text}${at(2)} next\n`, chunkBytes)).toBe(`|${'a'.repeat(PIECE)}${second}${'b'.repeat(PIECE)}${third}end\n|next\n`);
  });

  it('may be as long as a piece to the byte', () => {
    expect(pieces(`${at(1)} ${'a'.repeat(PIECE)}\n${at(2)} b\n`, 5_000)).toBe(`|${'a'.repeat(PIECE)}\n|b\n`);
  });

  it('are refused without a time', () => {
    expect(() => pieces('no time here, and a long text without one\n', 100)).toThrow(/without a time/);
  });

  it('sort by their time, whatever the zone of the node', () => {
    expect(parseStamp('2026-11-21T16:35:01.5+01:00')).toEqual(parseStamp('2026-11-21T15:35:01.500000000Z'));
    expect(parseStamp('yesterday')).toBeNull();
  });
});

/** A log as the API server serves it: from whole seconds on, and nothing of what was rotated away. */
class ServedLog {
  entries: { time: string; text: string }[] = [];
  ended = false;
  /** What follows breaks off after so many entries of one stream. */
  cutAfter = Infinity;
  failure: Error | null = null;

  write(second: number, nanos: number, text: string): void {
    this.entries.push({ time: at(second, nanos), text });
  }

  async *serve(sinceTime: string | null, signal: AbortSignal): AsyncGenerator<Buffer> {
    if (this.failure !== null) throw this.failure;
    let given = 0;
    for (const { time, text } of [...this.entries]) {
      signal.throwIfAborted();
      if (sinceTime !== null && time < sinceTime.replace('Z', '.000000000Z')) continue;
      if (given++ >= this.cutAfter) throw new KubeUnreachable('a stream of the API server broke off');
      yield Buffer.from(`${time} ${text}\n`);
    }
    await Promise.resolve();
  }
}

function sourceOf(log: ServedLog): LogSource {
  const api = new FakeKube();
  api.logs.set('p', (since, signal) => log.serve(since, signal));
  return { api, namespace: 'ns', pod: 'p', ended: () => log.ended, connection: () => new AbortController().signal };
}

/** All lines from a position on, until the pod has ended or so many were read; and where that is. */
async function read(log: ServedLog, after: string | null, count = Infinity): Promise<{ lines: string[]; position: string | null }> {
  const lines: string[] = [];
  let position = after;
  for await (const chunk of followLogs(sourceOf(log), after, new AbortController().signal)) {
    lines.push(chunk.data.toString().trimEnd());
    position = chunk.position;
    if (lines.length >= count) break;
  }
  return { lines, position };
}

describe('following a log', () => {
  it('goes on after any position, with nothing twice and nothing missing', async () => {
    const log = new ServedLog();
    const texts = Array.from({ length: 40 }, (_, index) => `line ${index}`);
    // Several in a second, several at the same instant, some filed after a later one.
    texts.forEach((text, index) => log.write(10 + Math.floor(index / 8), index % 3 === 0 ? 500 : 500 + (index % 8) * 10, text));
    log.ended = true;
    for (let count = 1; count < texts.length; count += 1) {
      const first = await read(log, null, count);
      const second = await read(log, first.position);
      expect([...first.lines, ...second.lines]).toEqual(texts);
    }
  });

  it('takes up a stream that breaks off, and ends with the pod', async () => {
    const log = new ServedLog();
    for (let index = 0; index < 9; index += 1) log.write(20 + index, 0, `line ${index}`);
    log.ended = true;
    // Each stream brings up to four entries, of which at most two were given out before.
    log.cutAfter = 4;
    expect((await read(log, null)).lines).toEqual(Array.from({ length: 9 }, (_, index) => `line ${index}`));
  });

  it('says that something is missing where the node has thrown it away', async () => {
    const log = new ServedLog();
    log.write(30, 0, 'old');
    log.ended = true;
    const { position } = await read(log, null);
    log.entries = [];
    log.write(40, 0, 'new');
    const chunks = [];
    for await (const chunk of followLogs(sourceOf(log), position, new AbortController().signal)) chunks.push(chunk);
    expect(chunks).toMatchObject([{ lostBytes: 0 }]);
    expect(chunks[0]?.data.toString()).toBe('new\n');
  });

  it('ends for a pod that is not there, and fails where it is refused', async () => {
    const log = new ServedLog();
    log.failure = new KubeError('not found', 404, 'NotFound');
    expect((await read(log, null)).lines).toEqual([]);
    log.failure = new KubeError('not allowed', 403, 'Forbidden');
    await expect(read(log, null)).rejects.toThrow('not allowed');
  });

  it('refuses a position that is none', () => {
    expect(() => new LogPlace('12')).toThrow(/not a position/);
  });
});
