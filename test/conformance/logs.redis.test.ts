/** Logs of functions in Redis: leaders that follow each other, a Redis that is away, and the room of all functions together. */
import { afterEach, describe, expect, it } from 'vitest';
import { DEFAULT_ACCESS, type LogRetention } from '#contract/access.ts';
import { systemClock } from '#kit/clock.ts';
import { type Log, silentLog } from '#kit/log.ts';
import { FunctionLogs } from '../../controller/engine/logs.ts';
import { RedisLogs } from '../../controller/store/redis/logs.ts';
import { RedisRecords } from '../../controller/store/redis/records.ts';
import { openRedisStore } from '../../controller/store/redis/store.ts';
import type { InstanceRecords, LogFiles } from '../../controller/store/types.ts';
import { Output } from '../helpers/instance-output.ts';
import { startRedis } from '../helpers/redis-server.ts';
import { waitFor } from '../helpers/wait.ts';
import { INSTANCE, inRedis, KEY, LOG, useLogs } from './logs.fixture.ts';
import { openRedisAt } from './store.adapters.ts';

const here = useLogs();

describe('logs in Redis', () => {
  const retention: LogRetention = { ...DEFAULT_ACCESS.logs, maxAgeSeconds: Infinity };
  const opened: FunctionLogs[] = [];
  const make = (at: { files: LogFiles; records: InstanceRecords }, log: Log = silentLog, limits = retention) => {
    const logs = new FunctionLogs({ ...at, clock: systemClock, log, retention: () => limits });
    opened.push(logs);
    return logs;
  };
  afterEach(() => Promise.all(opened.splice(0).map((logs) => logs.close())));
  const linesOf = async (logs: FunctionLogs, name = 'hello') => {
    const found: string[] = [];
    for await (const { msg } of logs.read('default', name, { follow: false }, new AbortController().signal)) found.push(msg);
    return found;
  };
  const holds = (logs: FunctionLogs, count: number) =>
    waitFor(`${count} lines`, async () => {
      const lines = await linesOf(logs);
      return lines.length >= count && lines;
    });

  it('of a leader that was replaced change nothing: the next one has each line once, though both read', async () => {
    const output = new Output();
    const [one, two] = [make(await inRedis(here)), make(await inRedis(here))];
    one.follow(INSTANCE, KEY, output.read);
    two.follow(INSTANCE, KEY, output.read);
    for (let n = 0; n < 20; n += 1) output.write(`${n}\n`);
    const expected = Array.from({ length: 20 }, (_, n) => String(n));
    expect(await holds(two, 20)).toEqual(expected);
    await one.close();
    output.end();
    await two.close();
    expect(await linesOf(make(await inRedis(here)))).toEqual(expected);
  });

  it('are handed from leader to leader, each line once and in order, while the instance writes', async () => {
    const output = new Output();
    let written = 0;
    const timer = setInterval(() => {
      for (let n = 0; n < 7; n += 1) output.write(`${written++}\n`);
    }, 1);
    try {
      for (let leader = 0; leader < 6; leader += 1) {
        const logs = make(await inRedis(here));
        logs.follow(INSTANCE, KEY, output.read);
        const before = (await linesOf(logs)).length;
        await holds(logs, before + 30);
        // Half of them end in order; the others are cut off by the next one's term.
        if (leader % 2 === 0) await logs.close();
      }
    } finally {
      clearInterval(timer);
    }
    const last = make(await inRedis(here));
    last.follow(INSTANCE, KEY, output.read);
    expect(await holds(last, written)).toEqual(Array.from({ length: written }, (_, n) => String(n)));
  });

  it.each(['is gone', 'does not answer'] as const)('wait for a Redis that %s; nothing is lost and nothing comes twice', async (how) => {
    const own = await startRedis({ appendfsync: 'always' });
    const output = new Output();
    const timers: NodeJS.Timeout[] = [];
    try {
      const store = await openRedisStore({ connection: await openRedisAt(own.url, { commandTimeoutMs: 1_500 }), log: silentLog });
      here.stores.push(store);
      await store.raiseTerm();
      const { term } = store;
      const logs = make({
        files: new RedisLogs({ term, maxBytes: Infinity }),
        records: new RedisRecords({ term, clock: systemClock, log: silentLog }),
      });
      logs.follow(INSTANCE, KEY, output.read);
      let written = 0;
      timers.push(setInterval(() => output.write(`${written++}\n`), 1));
      await holds(logs, 50);
      for (let round = 0; round < 2; round += 1) {
        if (how === 'is gone') await own.kill();
        else own.pause();
        await waitFor('the store to be away', () => !term.connection.ready);
        const late = make({
          files: new RedisLogs({ term, maxBytes: Infinity }),
          records: new RedisRecords({ term, clock: systemClock, log: silentLog }),
        });
        // One that begins to be followed now is followed when the store is back.
        const other = new Output();
        other.write('late\n');
        late.follow('i-bbbbbbbbbbbb', 'default/other@1', other.read);
        if (how === 'is gone') await own.restart();
        else own.resume();
        await waitFor('its line', async () => (await linesOf(late, 'other')).length > 0);
        other.end();
      }
      for (const timer of timers.splice(0)) clearInterval(timer);
      expect(await holds(logs, written)).toEqual(Array.from({ length: written }, (_, n) => String(n)));
      expect((await logs.stats('default', 'hello')).droppedLines).toBe(0);
    } finally {
      for (const timer of timers) clearInterval(timer);
      await Promise.all(opened.splice(0).map((logs) => logs.close()));
      await own.stop();
    }
  });

  it('a write that was given up is not done when Redis goes on, after more was written', async () => {
    const one = await inRedis(here);
    const two = new RedisLogs({ term: here.stores.at(-1)!.term, maxBytes: Infinity });
    await one.files.append(LOG, 'a', Buffer.from('one'), 1);
    // As after a restart of the same controller: what the other still has under way is not for this version.
    await two.append(LOG, 'a', Buffer.from('two'), 2);
    await expect(one.files.truncate(LOG, 'a', 3)).rejects.toMatchObject({ code: 'store-unavailable' });
    expect(String(await one.files.read(LOG, 'a'))).toBe('onetwo');
    await one.files.truncate(LOG, 'a', 3);
    expect(String(await one.files.read(LOG, 'a'))).toBe('one');
  });

  it('of all functions together are so many bytes: the segments that were written to the longest time ago go, and it is told', async () => {
    const told: unknown[] = [];
    const log: Log = { ...silentLog, warn: (fields) => told.push(fields) };
    const at = await inRedis(here, 300_000);
    const logs = make(at, log, { ...retention, maxBytes: 200_000 });
    const text = 'x'.repeat(1_000);
    for (const [index, name] of ['first', 'second', 'third'].entries())
      for (let n = 0; n < 150; n += 1) await logs.note(`default/${name}@1`, INSTANCE, 'info', `${n} ${text}`, index * 1_000 + n);
    await waitFor('room', async () => {
      const sizes = await Promise.all(['first', 'second', 'third'].map((name) => at.files.list(`default/${name}`)));
      return sizes.flat().reduce((sum, { bytes }) => sum + bytes, 0) <= 300_000;
    });
    expect((await linesOf(logs, 'third')).length).toBe(150);
    const [first, second] = [await linesOf(logs, 'first'), await linesOf(logs, 'second')];
    expect(first.length).toBeLessThan(20);
    expect(second.at(-1)).toMatch(/^149 /);
    expect(second.length).toBeGreaterThan(80);
    expect(told[0]).toMatchObject({ functions: ['default/first'], ofFunctions: 1 });
    expect(at.files.overfull).toBe(false);
  });

  it('leave nothing of a function that was deleted', async () => {
    const at = await inRedis(here);
    const logs = make(at);
    await logs.note(KEY, INSTANCE, 'info', 'one', 1);
    await logs.remove('default', 'hello', 1);
    const { connection } = here.stores.at(-1)!.term;
    const keys = await connection.call('KEYS', `${connection.prefix.replaceAll(/[{}]/g, '?')}log*`);
    expect(keys).toEqual([connection.key('log-bytes')]);
    expect(await connection.call('GET', connection.key('log-bytes'))).toBe('0');
  });
});
