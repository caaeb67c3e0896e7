/** What only Redis can do wrong: outages, lost writes, damage, versions. The port is tested in test/conformance. */
import type { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Revision } from '#contract/function.ts';
import { type Log, silentLog } from '#kit/log.ts';
import { parseStoreUrl, type RedisAddress } from '#kit/store-url.ts';
import { type RedisServer, startRedis } from '../../../test/helpers/redis-server.ts';
import { defineScript, openRedis, type RedisConnection } from './connection.ts';
import { openRedisStore } from './store.ts';

const PASSWORD = 'c4nary-pa55';

let server: RedisServer;
let raw: Redis;
const connections: RedisConnection[] = [];

beforeAll(async () => {
  server = await startRedis({ password: PASSWORD });
  raw = server.client();
});
afterAll(() => server.stop());
afterEach(async () => {
  for (const connection of connections.splice(0)) connection.close();
  server.resume();
  await raw.flushall();
});

function address(of: Partial<RedisAddress> = {}): RedisAddress {
  const parsed = parseStoreUrl(server.url);
  if (parsed.kind !== 'redis') throw new Error('not a Redis');
  return { ...parsed, ...of };
}

async function connect(of: Partial<RedisAddress> = {}, more: { commandTimeoutMs?: number; openTimeoutMs?: number } = {}) {
  const connection = await openRedis({ address: address(of), log: silentLog, clientName: 'fn-test', ...more });
  connections.push(connection);
  return connection;
}

const open = async () => openRedisStore({ connection: await connect(), log: silentLog });

const revision = (name: string, number = 1) =>
  Revision.parse({
    key: `default/${name}@${number}`,
    namespace: 'default',
    name,
    number,
    bundle: `sha256:${'a'.repeat(64)}`,
    entry: 'index.mjs',
    settings: { concurrency: 1, egress: 'none' },
    form: 'fetch',
    createdAt: 1,
  });
const all = (number = 1) => ({ traffic: [{ revision: number, percent: 100 }] });

describe('a connection', () => {
  it.each<[string, Partial<RedisAddress>, RegExp]>([
    ['to nobody', { port: 1 }, /ECONNREFUSED.*start Redis first/],
    ['with a wrong password', { password: 'wrong' }, /user or the password is wrong/],
    ['without a password', { password: null }, /wants a password/],
    ['to a database that is not there', { db: 999 }, /DB index is out of range/],
  ])('%s: refused, with the address and what to do, and no password', async (_name, of, words) => {
    const refused = connect(of, { openTimeoutMs: 2_000 });
    await expect(refused).rejects.toMatchObject({ code: 'store-unavailable', message: expect.stringMatching(words) as string });
    await expect(refused).rejects.toMatchObject({ message: expect.stringContaining(`redis://127.0.0.1:${address(of).port}/`) as string });
    await expect(refused).rejects.not.toMatchObject({ message: expect.stringContaining(PASSWORD) as string });
  });

  it('to a Redis that does not answer: each command is rejected in its time, later ones at once; afterwards it works again', async () => {
    const connection = await connect({}, { commandTimeoutMs: 1_500 });
    server.pause();
    await expect(connection.call('GET', connection.key('x'))).rejects.toMatchObject({
      code: 'store-unavailable',
      message: expect.stringContaining('did not answer in time') as string,
    });
    await expect.poll(() => connection.ready).toBe(false);
    await expect(connection.call('GET', connection.key('x'))).rejects.toMatchObject({
      message: expect.stringContaining('no connection') as string,
    });
    server.resume();
    await connection.untilReady(10_000);
    expect(await connection.call('GET', connection.key('x'))).toBeNull();
  });

  it('that breaks: what was under way is rejected and not sent a second time', async () => {
    const connection = await connect({}, { commandTimeoutMs: 5_000 });
    const held = Promise.allSettled([connection.call('BLPOP', connection.key('none'), 0), connection.call('INCR', connection.key('n'))]);
    await expect.poll(() => raw.call('CLIENT', 'LIST', 'TYPE', 'normal')).toMatch(/cmd=blpop/);
    await raw.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
    expect((await held).map(({ status }) => status)).toEqual(['rejected', 'rejected']);
    await connection.untilReady(10_000);
    expect(Number(await connection.call('GET', connection.key('n')))).toBe(0);
  });

  it('a script is known again after the server was restarted', async () => {
    const connection = await connect();
    const script = defineScript(`return redis.call('INCR', KEYS[1])`);
    expect(await connection.run(script, [connection.key('n')], [])).toBe(1);
    await server.restart();
    await connection.untilReady(10_000);
    // appendfsync always: what was answered is there.
    expect(await connection.run(script, [connection.key('n')], [])).toBe(2);
  });

  it('an error of the command itself is no outage', async () => {
    const connection = await connect();
    await raw.set(connection.key('text'), 'x');
    await expect(connection.call('LPUSH', connection.key('text'), 1)).rejects.toMatchObject({ name: 'ReplyError' });
  });

  it('logs neither the password nor each attempt of an outage', async () => {
    const lines: string[] = [];
    const keep = (fields: object, message: string) => void lines.push(`${JSON.stringify(fields)} ${message}`);
    const log: Log = { debug: keep, info: keep, warn: keep, error: keep };
    connections.push(await openRedis({ address: address(), log, clientName: 'fn-test' }));
    await server.restart();
    await connections[0]!.untilReady(10_000);
    expect(lines.filter((line) => line.includes('broke'))).toHaveLength(1);
    expect(lines.join('\n')).not.toContain(PASSWORD);
  });
});

describe('the store', () => {
  it('is away: every write says store-unavailable and none is made up for later', async () => {
    const store = await open();
    await store.raiseTerm();
    await store.commitRevision(revision('hello'), all());
    await server.kill();
    await expect(store.changeFunction('default', 'hello', all())).rejects.toMatchObject({ code: 'store-unavailable' });
    await expect(store.listFunctions()).rejects.toMatchObject({ code: 'store-unavailable' });
    await server.restart();
    await connections[0]!.untilReady(10_000);
    expect(await store.getFunction('default', 'hello')).toMatchObject({ generation: 1 });
  });

  it('has lost its newest writes: the term is put back, and the same number given to another is not ours', async () => {
    const one = await open();
    const two = await open();
    await one.raiseTerm();
    await two.raiseTerm();
    // As after a crash between two fsyncs: one's term is the newest again.
    await raw.hset('fn:{main}:meta', 'term', 1);
    await two.addArtifact('a', 'bundle', 'x', 1);
    await expect(one.addArtifact('a', 'bundle', 'y', 1)).rejects.toMatchObject({ code: 'not-leader' });
    await raw.hset('fn:{main}:meta', 'term', 1);
    const three = await open();
    expect(await three.raiseTerm()).toBe(2);
    await expect(two.addArtifact('a', 'bundle', 'y', 1)).rejects.toMatchObject({ code: 'not-leader' });
    expect(await three.hasArtifact('a', 'bundle', 'y')).toBe(false);
  });

  it('of a newer fn is refused', async () => {
    await open();
    await raw.hset('fn:{main}:meta', 'format', 99);
    await expect(open()).rejects.toMatchObject({
      code: 'store-unavailable',
      message: expect.stringMatching(/format 99.*newer fn/) as string,
    });
  });

  it.each<[string, string, string]>([
    ['traffic', 'traffic', '[{"revision":1,"percent":7}]'],
    ['access', 'access', '{"routes":3}'],
    ['the revision that serves', 'r:1', '{"key":'],
  ])('a function whose %s is damaged is left out, and stops no other', async (_name, field, value) => {
    const store = await open();
    for (const name of ['bad', 'good']) await store.commitRevision(revision(name), all());
    await raw.hset('fn:{main}:function:default/bad', field, value);
    expect((await store.listFunctions()).map(({ name }) => name)).toEqual(['good']);
    await expect(store.getFunction('default', 'bad')).rejects.toMatchObject({
      code: 'store-unavailable',
      message: expect.stringContaining('default/bad') as string,
    });
    expect((await store.bundlesInUse()).size).toBe(1);
  });

  it('an old revision that is damaged is left out', async () => {
    const store = await open();
    await store.commitRevision(revision('hello'), all());
    await store.commitRevision(revision('hello', 2), all(2));
    await raw.hset('fn:{main}:function:default/hello', 'r:1', '[]');
    expect((await store.getFunction('default', 'hello'))?.revisions.map(({ number }) => number)).toEqual([2]);
  });

  it('needs of a user no more than docs/operations.md says', async () => {
    await raw.call('ACL', 'SETUSER', 'fn', 'on', '>pw', '~fn:*', '+@all', '-@dangerous', '+info', '+config|get');
    const store = await openRedisStore({ connection: await connect({ username: 'fn', password: 'pw' }), log: silentLog });
    expect(await store.campaign('a', 1_000)).toBe(true);
    await store.raiseTerm();
    await store.commitRevision(revision('hello'), all());
    await store.addAudit({
      t: 1,
      by: { id: 'x', name: 'x' },
      action: 'a',
      namespace: 'n',
      subject: 's',
      request: 'r',
      outcome: 'ok',
      detail: {},
    });
    expect([await store.pruneAudit(0), await store.deleteFunction('default', 'hello')]).toEqual([1, true]);
    await expect(connections.at(-1)!.call('GET', 'other')).rejects.toMatchObject({
      code: 'store-unavailable',
      message: expect.stringContaining('fn:*') as string,
    });
  });

  it('writes below its own name only, all in one slot', async () => {
    const store = await openRedisStore({ connection: await connect({ name: 'other' }), log: silentLog });
    await store.raiseTerm();
    await store.commitRevision(revision('hello'), all());
    await store.addArtifact('a', 'bundle', 'x', 1);
    expect((await raw.keys('*')).filter((key) => !key.startsWith('fn:{other}:'))).toEqual([]);
    expect((await (await open()).listFunctions()).length).toBe(0);
  });

  it('twenty changes of one function at once are all made', async () => {
    const store = await open();
    await store.commitRevision(revision('hello'), all());
    await Promise.all(Array.from({ length: 20 }, () => store.changeFunction('default', 'hello', all())));
    expect(await store.getFunction('default', 'hello')).toMatchObject({ generation: 21 });
  });
});
