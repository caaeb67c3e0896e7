import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { LogChunk } from '../types.ts';
import { FrameSplitter, LogCursor, framesText } from './logs.ts';

const frame = (stream: 1 | 2, text: string): Buffer => {
  const header = Buffer.alloc(8);
  header[0] = stream;
  header.writeUInt32BE(Buffer.byteLength(text), 4);
  return Buffer.concat([header, Buffer.from(text)]);
};
const time = (ms: number, nanos = 0): string =>
  `${new Date(Date.UTC(2026, 0, 1) + ms).toISOString().slice(0, 23)}${String(nanos).padStart(6, '0')}Z`;
const entry = (at: string, text: string) => ({ stream: 'stdout' as const, payload: Buffer.from(`${at} ${text}`) });

describe('FrameSplitter', () => {
  it('finds frames wherever the chunks are cut', () => {
    const bytes = Buffer.concat([frame(1, 'one\n'), frame(2, 'zwei'), frame(1, '')]);
    for (let cut = 0; cut <= bytes.length; cut++) {
      const splitter = new FrameSplitter();
      const frames = [...splitter.push(bytes.subarray(0, cut)), ...splitter.push(bytes.subarray(cut))];
      expect(frames.map(({ stream, payload }) => [stream, payload.toString()])).toEqual([
        ['stdout', 'one\n'],
        ['stderr', 'zwei'],
        ['stdout', ''],
      ]);
    }
    expect(framesText(bytes)).toBe('one\nzwei');
  });

  it('refuses what is no such stream', () => {
    expect(() => [...new FrameSplitter().push(Buffer.from('HTTP/1.1 200 OK\r\n'))]).toThrow('cannot be read');
  });
});

describe('LogCursor', () => {
  /** What Docker gives from a log file: the entries not older than `since`, in the order of the file. */
  const read = (file: { at: string; text: string }[], cursor: LogCursor) => {
    const [seconds, nanos] = cursor.since.split('.');
    const from = cursor.since === '0' ? '' : `${new Date(Number(seconds) * 1_000).toISOString().slice(0, 19)}.${nanos}Z`;
    return file.filter(({ at }) => at >= from).map(({ at, text }) => cursor.take(entry(at, text)));
  };

  it('goes on after the same nanosecond', () => {
    const file = ['a', 'b', 'c'].map((text) => ({ at: time(5), text }));
    const second = read(file, new LogCursor(null))[1]!;
    expect(second.data.toString()).toBe('b');
    const rest = read(file, new LogCursor(second.position)).filter((chunk) => chunk !== null);
    expect(rest.map((chunk) => chunk.data.toString())).toEqual(['c']);
  });

  it('gives each entry exactly once, wherever it is interrupted, in files that are not quite in order', () => {
    const gaps = fc.array(fc.record({ gap: fc.nat(700), back: fc.nat(300) }), { minLength: 1, maxLength: 60 });
    fc.assert(
      fc.property(gaps, fc.array(fc.nat(20), { minLength: 1, maxLength: 8 }), (steps, stops) => {
        let now = 1_000;
        const file = steps.map(({ gap, back }, index) => ({ at: time((now += gap) - back), text: String(index) }));
        const given: string[] = [];
        let position: string | null = null;
        for (const stop of [...stops, Infinity]) {
          const chunks: LogChunk[] = read(file, new LogCursor(position)).filter((chunk) => chunk !== null);
          for (const chunk of chunks.slice(0, stop)) {
            given.push(chunk.data.toString());
            position = chunk.position;
          }
        }
        expect(given).toEqual(file.map(({ text }) => text));
      }),
    );
  });

  it('tells when an entry was written, and where others may have been lost before it', () => {
    const file = Array.from({ length: 4 }, (_unused, index) => ({ at: time(10 * index), text: String(index) }));
    const first = read(file, new LogCursor(null))[0]!;
    expect(first.at).toBe(Date.UTC(2026, 0, 1));
    expect(first).not.toHaveProperty('lostBytes');
    const some = (gone: number) => read(file.slice(gone), new LogCursor(first.position)).filter((chunk) => chunk !== null);
    expect(some(0)[0]).not.toHaveProperty('lostBytes');
    expect(some(2)[0]).toMatchObject({ lostBytes: 0 });
    expect(some(2)[1]).not.toHaveProperty('lostBytes');
  });

  it('loses nothing new where rotation took away what it would leave out', () => {
    const file = Array.from({ length: 5 }, (_unused, index) => ({ at: time(10 * index), text: String(index) }));
    const third = read(file, new LogCursor(null))[2]!;
    const rotated = [...file.slice(3), { at: time(90), text: 'new' }];
    const rest = read(rotated, new LogCursor(third.position)).filter((chunk) => chunk !== null);
    expect(rest.map((chunk) => chunk.data.toString())).toEqual(['3', '4', 'new']);
  });

  it('refuses a position that is none', () => {
    expect(() => new LogCursor('yesterday')).toThrow('not a position');
  });
});
