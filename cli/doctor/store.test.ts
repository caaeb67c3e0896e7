import { describe, expect, it, onTestFinished } from 'vitest';
import { type RedisServerOptions, startRedis } from '../../test/helpers/redis-server.ts';
import { examineStore, judgeRedis, type RedisFacts } from './store.ts';

const SAFE = {
  appendonly: 'yes',
  appendfsync: 'always',
  save: '',
  maxmemory: '0',
  'maxmemory-policy': 'noeviction',
  'min-replicas-to-write': '0',
};
const facts = (more: Partial<RedisFacts> = {}, config: Record<string, string> = {}): RedisFacts => ({
  version: '7.0.15',
  role: 'master',
  replicas: 0,
  diskFailed: false,
  config: { ...SAFE, ...config },
  ...more,
});
const levels = (of: RedisFacts) => judgeRedis('redis://h:6379/0', of).map(({ level, found }) => `${level}: ${found}`);

describe('a Redis as store', () => {
  it('that flushes each write and evicts nothing is well', () => {
    expect(judgeRedis('redis://h:6379/0', facts()).every(({ level }) => level === 'ok')).toBe(true);
  });

  it.each<[string, RedisFacts, RegExp]>([
    ['everysec', facts({}, { appendfsync: 'everysec' }), /^warn: .*up to 2 s: events that were answered with 202/],
    ['no fsync', facts({}, { appendfsync: 'no' }), /^warn: .*some 30 s/],
    ['snapshots only', facts({}, { appendonly: 'no', save: '3600 1' }), /^warn: .*snapshots only \(save 3600 1\)/],
    ['nothing on a disk', facts({}, { appendonly: 'no' }), /^warn: .*loses every function, token, secret and event/],
    ['eviction', facts({}, { 'maxmemory-policy': 'allkeys-lru' }), /^fail: .*throws functions and events away/],
    ['replicas written behind', facts({ replicas: 2 }), /^warn: 2, which are written behind/],
    ['a replica', facts({ role: 'slave' }), /^fail: it is a replica/],
    ['a disk that failed', facts({ diskFailed: true }), /^fail: its last write to its disk failed/],
    ['too old', facts({ version: '6.0.16' }), /^fail: Redis 6.0.16 .* too old/],
    ['settings that it does not tell', facts({ config: null }), /^warn: .*fn cannot tell what can be lost/],
  ])('%s', (_name, of, words) => {
    expect(levels(of).filter((line) => words.test(line))).toHaveLength(1);
  });

  it('too few replicas refuse writes: that is no warning', () => {
    expect(levels(facts({ replicas: 2 }, { 'min-replicas-to-write': '1' }))).toContain(
      'ok: 2; writes are refused while too few are in reach',
    );
  });

  it('a newer major version is new enough', () => {
    expect(levels(facts({ version: '8.0.1' }))[0]).toMatch(/^ok/);
  });
});

describe('a Redis that runs', () => {
  const start = async (options: RedisServerOptions) => {
    const server = await startRedis(options);
    onTestFinished(() => server.stop());
    return server;
  };

  it('is asked for what it is set to', async () => {
    const { url } = await start({ appendfsync: 'everysec', password: 'c4nary', settings: { 'maxmemory-policy': 'volatile-lru' } });
    const findings = await examineStore(url);
    expect(findings.map(({ level }) => level)).toEqual(['ok', 'warn', 'fail']);
    expect(JSON.stringify(findings)).not.toContain('c4nary');
  });

  it('may forbid CONFIG: then fn says that it cannot tell', async () => {
    const server = await start({});
    await server.client().call('ACL', 'SETUSER', 'fn', 'on', '>pw', '~fn:*', '+@all', '-config');
    const findings = await examineStore(server.url.replace('redis://', 'redis://fn:pw@'));
    expect(findings.at(-1)).toMatchObject({ level: 'warn', found: expect.stringContaining('cannot tell') as string });
  });

  it('that is not there, or refuses the password, is a failure with its address', async () => {
    const { url, port } = await start({ password: 'c4nary' });
    expect(await examineStore(url.replace('c4nary', 'wrong'))).toMatchObject([
      { level: 'fail', found: expect.stringMatching(/WRONGPASS/) as string },
    ]);
    // As of a platform that runs: its address is known without its password.
    expect(await examineStore(url.replace(':c4nary@', ''))).toMatchObject([
      { level: 'warn', found: expect.stringMatching(/wants a password/) as string, remedy: expect.stringContaining('FN_STORE=') as string },
    ]);
    expect(await examineStore('redis://127.0.0.1:1')).toMatchObject([
      { level: 'fail', found: expect.stringMatching(/redis:\/\/127\.0\.0\.1:1\/0 .*ECONNREFUSED/) as string },
    ]);
    expect(JSON.stringify(await examineStore(`redis://:c4nary@127.0.0.1:${port}/99`))).not.toContain('c4nary');
  });

  it('sqlite has nothing to be asked', async () => {
    expect(await examineStore('sqlite')).toEqual([]);
  });
});
