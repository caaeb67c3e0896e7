/** Logs of functions, wherever they are kept: the same in files of a host, and in Redis for whoever leads next. */
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DEFAULT_ACCESS, type LogRetention } from '#contract/access.ts';
import type { LogEntry } from '#contract/log.ts';
import { systemClock, VirtualClock } from '#kit/clock.ts';
import { silentLog } from '#kit/log.ts';
import type { LogSelection } from '../../controller/api/platform.ts';
import { LogFolder } from '../../controller/engine/log-folder.ts';
import { MAX_SEGMENT_BYTES } from '../../controller/engine/log-segments.ts';
import { FunctionLogs } from '../../controller/engine/logs.ts';
import { FileRecords } from '../../controller/engine/records.ts';
import type { InstanceRecords, LogFiles } from '../../controller/store/types.ts';
import { Output } from '../helpers/instance-output.ts';
import { waitFor } from '../helpers/wait.ts';
import { INSTANCE, inRedis, KEY, LOG, useLogs } from './logs.fixture.ts';

interface Kind {
  name: string;
  open: (folder: string) => Promise<{ files: LogFiles; records: InstanceRecords }>;
}

const KINDS: Kind[] = [
  {
    name: 'files',
    open: async (folder) => ({ files: new LogFolder(join(folder, 'logs')), records: new FileRecords(join(folder, 'records')) }),
  },
  { name: 'redis', open: () => inRedis(here) },
];

const here = useLogs();

describe.each(KINDS)('logs: $name', ({ open }) => {
  let files: LogFiles;
  let records: InstanceRecords;
  let logs: FunctionLogs;
  let retention: LogRetention;
  /** The next controller. */
  const make = async (clock = systemClock) => {
    ({ files, records } = await open(here.folder));
    await records.load();
    logs = new FunctionLogs({ files, records, clock, log: silentLog, retention: () => retention });
  };

  beforeEach(async () => {
    // Lines of 1970 are the tests' own.
    retention = { ...DEFAULT_ACCESS.logs, maxAgeSeconds: Infinity };
    await make();
  });
  afterEach(() => logs.close());

  async function all(options: Omit<LogSelection, 'follow'> = {}): Promise<string[]> {
    const found: string[] = [];
    for await (const entry of logs.read('default', 'hello', { follow: false, ...options }, new AbortController().signal))
      found.push(entry.msg);
    return found;
  }

  /** Waits until there are so many lines, and says which. */
  const holds = (count: number) => waitFor(`${count} lines`, async () => ((await all()).length >= count ? all() : null), { everyMs: 5 });

  const segments = async () => (await files.list(LOG)).map(({ name }) => name);

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
      await make();
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

    it('begin a new segment where one is full, and a reader that is in the middle goes on', async () => {
      const line = 'x'.repeat(8_000);
      for (let n = 0; n < 300; n += 20) {
        await Promise.all(Array.from({ length: 20 }, (_, m) => logs.note(KEY, INSTANCE, 'info', `${n + m} ${line}`, n + m + 1)));
      }
      const reader = logs.read('default', 'hello', { follow: false }, new AbortController().signal);
      expect((await reader.next()).value?.msg.split(' ')[0]).toBe('0');
      for (let n = 0; n < 200; n += 1) await logs.note(KEY, INSTANCE, 'info', `later ${line}`, 1_000);
      expect((await segments()).length).toBeGreaterThan((300 * 8_000) / (MAX_SEGMENT_BYTES + 170_000));
      let seen = 1;
      for await (const entry of reader) {
        expect(entry.msg.startsWith(`${seen} `)).toBe(true);
        seen += 1;
      }
      expect(seen).toBe(300);
    });

    it('are by time over all instances, and those of one as it wrote them', async () => {
      const [a, b] = ['i-aaaaaaaaaaaa', 'i-bbbbbbbbbbbb'];
      for (const t of [10, 20, 30]) await logs.note(KEY, a, 'info', `a${t}`, t);
      for (const t of [15, 12, 25]) await logs.note(KEY, b, 'info', `b${t}`, t);
      const expected = ['a10', 'b15', 'b12', 'a20', 'b25', 'a30'];
      expect(await all()).toEqual(expected);
      expect(await all({ limit: 4 })).toEqual(expected.slice(-4));
    });

    it('are by time over segments that overlap, from the front and from the end', async () => {
      retention = { ...retention, maxBytes: 400_000 };
      const text = 'x'.repeat(1_000);
      // One instance wrote for a while; what another wrote meanwhile was read after it.
      for (let n = 0; n < 100; n += 1) await logs.note(KEY, 'i-aaaaaaaaaaaa', 'info', `${n * 2} ${text}`, n * 2);
      for (let n = 0; n < 100; n += 1) await logs.note(KEY, 'i-bbbbbbbbbbbb', 'info', `${n * 2 + 1} ${text}`, n * 2 + 1);
      expect((await segments()).length).toBeGreaterThan(3);
      const numbers = (lines: string[]) => lines.map((line) => Number(line.split(' ')[0]));
      expect(numbers(await all())).toEqual(Array.from({ length: 200 }, (_, n) => n));
      expect(numbers(await all({ limit: 30 }))).toEqual(Array.from({ length: 30 }, (_, n) => 170 + n));
      expect(numbers(await all({ limit: 10, until: 50, since: 20 }))).toEqual(Array.from({ length: 10 }, (_, n) => 40 + n));
    });

    it('are found by request, level, text, revision and time', async () => {
      const output = new Output();
      const write = (level: string, msg: string, req?: string) =>
        output.write(`${JSON.stringify({ t: output.chunks.length + 1, level, stream: 'out', msg, req })}\n`);
      write('debug', 'one "quoted"\nline', 'r-1');
      write('info', 'two', 'r-2');
      write('warn', 'three', 'r-1');
      write('error', 'four $& [', 'r-11');
      logs.follow(INSTANCE, KEY, output.read);
      await holds(4);
      await logs.note('default/hello@2', INSTANCE, 'info', 'five', 5);
      expect(await all({ request: 'r-1' })).toEqual(['one "quoted"\nline', 'three']);
      expect(await all({ level: 'warn' })).toEqual(['three', 'four $& [']);
      expect(await all({ grep: '"\nl' })).toEqual(['one "quoted"\nline']);
      expect(await all({ grep: '$& [' })).toEqual(['four $& [']);
      expect(await all({ revision: 2 })).toEqual(['five']);
      expect(await all({ since: 2, until: 4 })).toEqual(['two', 'three']);
      expect(await all({ level: 'info', limit: 2, until: 5 })).toEqual(['three', 'four $& [']);
    });
  });

  describe('what is kept', () => {
    it('is so many bytes, the newest', async () => {
      retention = { ...retention, maxBytes: 65_536 };
      for (let n = 0; n < 300; n += 1) await logs.note(KEY, INSTANCE, 'info', `${n} ${'x'.repeat(1_000)}`, n + 1);
      const lines = await all();
      expect(lines.at(-1)).toMatch(/^299 /);
      expect(lines.length).toBeLessThan(66);
      expect(lines.length).toBeGreaterThan(40);
      const { bytes, oldest, droppedLines } = await logs.stats('default', 'hello');
      expect(bytes).toBeLessThanOrEqual(65_536);
      expect(oldest).toBe(Number(lines[0]!.split(' ')[0]) + 1);
      expect(droppedLines).toBe(0);
    });

    it('is never nothing of what came last, however much came at once', async () => {
      retention = { ...retention, maxBytes: 65_536 };
      const output = new Output();
      output.write(Array.from({ length: 500 }, (_, n) => `${n} ${'x'.repeat(1_000)}\n`).join(''));
      logs.follow(INSTANCE, KEY, output.read);
      const lines = await waitFor('the last line', async () => {
        const found = await all();
        return found.some((line) => line.startsWith('499 ')) && found;
      });
      expect(lines.length).toBeGreaterThan(10);
      expect((await logs.stats('default', 'hello')).bytes).toBeLessThanOrEqual(65_536);
    });

    it('is so old: to the line for readers, by segments on the disk', async () => {
      await logs.close();
      const clock = new VirtualClock();
      retention = { maxBytes: 1_000_000, maxAgeSeconds: 3_600 };
      await make(clock);
      const note = (msg: string) => logs.note(KEY, INSTANCE, 'info', msg, clock.wall());
      await note('old');
      clock.advance(1_000_000);
      await note('newer');
      clock.advance(2_700_000);
      expect(await all()).toEqual(['newer']);
      clock.advance(3_600_000);
      await waitFor('the files to go', async () => (await segments()).length === 0, { everyMs: 5 });
      expect(await logs.stats('default', 'hello')).toEqual({ bytes: 0, droppedLines: 0, oldest: null });
    });

    it('goes when it is too old though nobody has asked for it since the controller started', async () => {
      await logs.close();
      const clock = new VirtualClock(Date.now());
      retention = { maxBytes: 1_000_000, maxAgeSeconds: 3_600 };
      await make(clock);
      await logs.note(KEY, INSTANCE, 'info', 'old', clock.wall());
      await logs.close();
      await make(clock);
      clock.advance(120_000);
      clock.advance(7_200_000);
      const left = await waitFor(
        'the files to go',
        async () => {
          clock.advance(60_000);
          const files = await segments();
          return files.length === 0 && files;
        },
        { everyMs: 20 },
      );
      expect(left).toEqual([]);
    });

    it('survives the controller, with the lines that were never kept counted', async () => {
      const output = new Output();
      const sys = (msg: string) => `${JSON.stringify({ t: 1, level: 'warn', stream: 'sys', msg })}\n`;
      output.write(sys('17 log lines were dropped: the function logs too much'));
      output.write('17 log lines were dropped, says the function\n');
      output.chunks.push({ stream: 'stdout', data: Buffer.from('rest\n'), position: '3', lostBytes: 1_500 });
      logs.follow(INSTANCE, KEY, output.read);
      await holds(4);
      expect((await logs.stats('default', 'hello')).droppedLines).toBe(27);
      await logs.close();
      await make();
      expect((await logs.stats('default', 'hello')).droppedLines).toBe(27);
      expect((await all())[2]).toMatch(/^10 log lines were dropped, by estimate: the instance wrote 1500 bytes/);
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
      expect(await segments()).toEqual([]);
      await logs.note('default/hello@2', INSTANCE, 'info', 'anew', 1);
      expect(await all()).toEqual(['anew']);
    });
  });

  describe('the next controller', () => {
    it('knows what was kept of an instance that wrote nothing since many segments', async () => {
      retention = { ...retention, maxBytes: 200_000 };
      const [quiet, loud] = [new Output(), new Output()];
      quiet.write('once\n');
      logs.follow(INSTANCE, KEY, quiet.read);
      await holds(1);
      const first = (await segments())[0]!;
      logs.follow('i-bbbbbbbbbbbb', KEY, loud.read);
      for (let n = 0; (await segments()).length < 4; n += 1) {
        loud.write(`${'x'.repeat(5_000)} ${n}\n`);
        await waitFor('the line', async () => (await all({ limit: 1 })).some((line) => line.endsWith(` ${n}`)), { everyMs: 5 });
      }
      expect((await segments())[0]).not.toBe(first);
      await logs.close();
      await make();
      logs.follow(INSTANCE, KEY, quiet.read);
      quiet.write('again\n');
      await waitFor('the next line', async () => (await all({ limit: 1 }))[0] === 'again', { everyMs: 5 });
      expect((await all()).filter((line) => line === 'once')).toHaveLength(1);
    });

    it('knows it also where all lines have become too old', async () => {
      await logs.close();
      const clock = new VirtualClock();
      retention = { maxBytes: 1_000_000, maxAgeSeconds: 3_600 };
      await make(clock);
      const output = new Output();
      output.write('old\n');
      logs.follow(INSTANCE, KEY, output.read);
      await holds(1);
      clock.advance(7_200_000);
      await logs.stats('default', 'hello');
      expect(await all()).toEqual([]);
      await logs.close();
      await make(clock);
      output.write('new\n');
      logs.follow(INSTANCE, KEY, output.read);
      expect(await holds(1)).toEqual(['new']);
    });
  });

  describe('files', () => {
    const at = (name: string, text: string, when: number) => files.append(LOG, name, Buffer.from(text), when);

    it('are listed, read, cut, renamed and removed', async () => {
      expect([await files.logs(), await files.list(LOG), await files.read(LOG, 'a')]).toEqual([[], [], null]);
      await at('b', 'one', 1);
      await at('b', 'two', 2);
      await at('a', 'ü', 3);
      expect((await files.list(LOG)).map(({ name, bytes }) => [name, bytes])).toEqual([
        ['a', 2],
        ['b', 6],
      ]);
      expect(String(await files.read(LOG, 'b'))).toBe('onetwo');
      await files.truncate(LOG, 'b', 3);
      await files.rename(LOG, 'b', 'c');
      expect([await files.read(LOG, 'b'), String(await files.read(LOG, 'c'))]).toEqual([null, 'one']);
      expect(await files.logs()).toEqual([LOG]);
      await files.remove(LOG, 'a');
      expect((await files.list(LOG)).map(({ name }) => name)).toEqual(['c']);
      await files.removeLog(LOG);
      expect(await files.list(LOG)).toEqual([]);
    });

    it('that are not there are no error', async () => {
      await files.prepare(LOG);
      await files.truncate(LOG, 'a', 3);
      await files.rename(LOG, 'a', 'b');
      await files.remove(LOG, 'a');
      await files.removeLog(LOG);
      expect([await files.list(LOG), await files.logs()]).toEqual([[], []]);
    });

    it('of one log are not those of another', async () => {
      await at('a', 'one', 1);
      await files.append('default/hello-2', 'a', Buffer.from('two'), 2);
      await files.removeLog(LOG);
      expect(await files.logs()).toEqual(['default/hello-2']);
      expect(String(await files.read('default/hello-2', 'a'))).toBe('two');
    });
  });
});
