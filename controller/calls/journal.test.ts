import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { CallRecord } from '#contract/call.ts';
import { VirtualClock } from '#kit/clock.ts';
import { type Log, silentLog } from '#kit/log.ts';
import { CallJournal } from './journal.ts';
import { testCall } from './testing.ts';

let folder: string;
let clock: VirtualClock;
let warnings: string[];
let journal: CallJournal;

const log: Log = { ...silentLog, warn: (_fields, message) => void warnings.push(message) };
const open = (limits: { maxRecords?: number; maxAgeMs?: number } = {}) =>
  (journal = new CallJournal({
    path: join(folder, 'calls.db'),
    clock,
    log,
    maxRecords: 1_000,
    maxAgeMs: 3_600_000,
    slowMs: 1_000,
    ...limits,
  }));

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'fn-calls-'));
  clock = new VirtualClock();
  warnings = [];
});
afterEach(async () => {
  journal.close();
  await rm(folder, { recursive: true, force: true });
});

const call = (id: string, overrides: Partial<CallRecord> = {}) => testCall(id, { t: clock.wall(), ...overrides });

describe('the journal of calls', () => {
  it('finds by id and by trace, in one namespace only, over a restart', () => {
    open().add([call('a', { traceId: 't1' }), call('b'), call('a', { namespace: 'other' }), call('a', { path: '/2' })]);
    journal.close();
    open();
    expect(journal.find('default', 'a', 10).map(({ path }) => path)).toEqual(['/2', '/']);
    expect(journal.find('default', 't1', 10).map(({ id }) => id)).toEqual(['a']);
    expect(journal.find('other', 't1', 10)).toEqual([]);
    expect(journal.find('other', 'a', 10)).toHaveLength(1);
  });

  it('lists those of a function that failed, were slow or cold, the newest first', () => {
    open().add([
      call('ok'),
      call('500', { status: 500, t: clock.wall() + 1 }),
      call('oom', { status: 502, code: 'function-oom', t: clock.wall() + 2 }),
      call('slow', { totalMs: 1_500, t: clock.wall() + 3 }),
      call('stream', { totalMs: 90_000, streamMs: 89_990, stream: 'events', t: clock.wall() + 4 }),
      call('cold', { start: { kind: 'full', startMs: 1, initMs: 1 }, t: clock.wall() + 5 }),
      call('404', { status: 404, t: clock.wall() + 6 }),
      call('else', { name: 'other', status: 500 }),
    ]);
    const ids = (query: Parameters<CallJournal['list']>[2]) => journal.list('default', 'hello', query).map(({ id }) => id);
    expect(ids({})).toEqual(['404', 'cold', 'stream', 'slow', 'oom', '500', 'ok']);
    expect(ids({ failed: true })).toEqual(['oom', '500']);
    expect(ids({ slow: true })).toEqual(['slow']);
    expect(ids({ cold: true })).toEqual(['cold']);
    expect(ids({ failed: false, since: clock.wall() + 3, limit: 2 })).toEqual(['404', 'cold']);
  });

  it('keeps so many, and so long', () => {
    open({ maxRecords: 10 }).add(Array.from({ length: 25 }, (_, n) => call(`r-${n}`)));
    clock.advance(60_000);
    expect(journal.list('default', 'hello', {}).map(({ id }) => id)).toEqual(Array.from({ length: 10 }, (_, n) => `r-${24 - n}`));
    clock.advance(3_600_000);
    expect(journal.list('default', 'hello', {})).toEqual([]);
  });

  it('sets a file aside that is none of its own, says so, and begins anew', async () => {
    await writeFile(join(folder, 'calls.db'), 'this was a database once, before the disk had other ideas '.repeat(100));
    open().add([call('a')]);
    expect(journal.find('default', 'a', 1)).toHaveLength(1);
    expect(warnings).toEqual([expect.stringContaining('damaged')]);
    expect(await readFile(join(folder, 'calls.db.damaged'), 'utf8')).toMatch(/^this was/);
  });

  it('survives damage that shows only later', async () => {
    open().add(Array.from({ length: 500 }, (_, n) => call(`r-${n}`, { detail: 'x'.repeat(200) })));
    journal.close();
    const path = join(folder, 'calls.db');
    const data = await readFile(path);
    await writeFile(path, data.fill(0xff, 4_096, data.length));
    open();
    expect(journal.find('default', 'r-1', 1)).toEqual([]);
    journal.add([call('new')]);
    expect(journal.find('default', 'new', 1)).toHaveLength(1);
    expect(await readdir(folder)).toContain('calls.db.damaged');
  });

  it('is no reason to fail where it cannot be had, and is tried again', async () => {
    const path = join(folder, 'gone', 'calls.db');
    journal = new CallJournal({ path, clock, log, maxRecords: 10, maxAgeMs: 1_000, slowMs: 1 });
    journal.add([call('a')]);
    expect(journal.find('default', 'a', 1)).toEqual([]);
    expect(journal.lost).toBe(1);
    expect(warnings).toEqual([expect.stringContaining('could not be opened')]);
  });
});
