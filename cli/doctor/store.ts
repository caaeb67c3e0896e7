/**
 * What a Redis is set to do with what was written, in plain words: what an fn that answered "done" can lose. Redis keeps all of it in
 * memory, and decides by its settings when and whether it is on a disk.
 */
import { parseStoreUrl, storeUrlToShow } from '#kit/store-url.ts';
import type { Finding } from './finding.ts';

/** The answer to CONFIG GET and INFO, or why there is none. */
export interface RedisFacts {
  /** `7.0.15`; null: it does not say. */
  version: string | null;
  /** By name; null where CONFIG is forbidden, as managed ones do. */
  config: Readonly<Record<string, string>> | null;
  /** `master` or `slave`, where it says. */
  role: string | null;
  replicas: number;
  /** Whether its last write to the disk failed: then it refuses others. */
  diskFailed: boolean;
}

const OLDEST = '6.2';

/** Findings about the store; none for the file in the home, which has one setting. */
export async function examineStore(store: string): Promise<Finding[]> {
  const address = parseStoreUrl(store);
  if (address.kind === 'sqlite') return [];
  const what = 'store';
  let facts: RedisFacts;
  try {
    // Loaded for a Redis only.
    facts = await (await import('./redis.ts')).askRedis(address);
  } catch (error) {
    const said = error instanceof Error ? error.message : String(error);
    // The platform knows the password, and shows its address without it.
    if (address.password === null && said.includes('NOAUTH'))
      return [
        {
          level: 'warn',
          what,
          found: `${storeUrlToShow(address)} wants a password: what it can lose is not known`,
          remedy: "Give its whole address to this command too: FN_STORE='redis://USER:PASSWORD@HOST:PORT' fn doctor",
        },
      ];
    return [
      {
        level: 'fail',
        what,
        found: `${storeUrlToShow(address)} cannot be used: ${said}`,
        remedy: 'Start it, and check its address and its password: --store, FN_STORE',
      },
    ];
  }
  return judgeRedis(storeUrlToShow(address), facts);
}

/** Pure: what these settings mean. */
export function judgeRedis(address: string, facts: RedisFacts): Finding[] {
  const what = 'store';
  const findings: Finding[] = [];
  if (facts.version !== null && !atLeast(facts.version, OLDEST))
    findings.push({ level: 'fail', what, found: `Redis ${facts.version} at ${address} is too old`, remedy: `Redis ${OLDEST} or newer` });
  else findings.push({ level: 'ok', what, found: `Redis ${facts.version ?? 'of a version that it does not tell'} at ${address}` });
  if (facts.role === 'slave')
    findings.push({ level: 'fail', what, found: 'it is a replica, which takes no writes', remedy: 'Give fn the address of the master' });
  if (facts.diskFailed)
    findings.push({
      level: 'fail',
      what,
      found: 'its last write to its disk failed: it refuses writes',
      remedy: 'See its log, and free some space',
    });
  if (facts.config === null) {
    const found = 'it does not let fn read its settings (CONFIG), as managed ones do: fn cannot tell what can be lost';
    return [
      ...findings,
      { level: 'warn', what, found, remedy: 'Ask whose it is: appendfsync, eviction (it must be noeviction), replicas' },
    ];
  }
  return [...findings, durability(facts.config), ...eviction(facts.config), ...replication(facts)];
}

function durability(config: Readonly<Record<string, string>>): Finding {
  const what = 'store durability';
  const snapshots = (config.save ?? '') !== '';
  if (config.appendonly !== 'yes') {
    const found = snapshots
      ? `no append-only file, snapshots only (save ${config.save}): a crash loses all since the last one: deployments, tokens and accepted events of minutes`
      : 'it keeps nothing on a disk: a restart of Redis loses every function, token, secret and event';
    return { level: 'warn', what, found, remedy: 'CONFIG SET appendonly yes, CONFIG SET appendfsync always, CONFIG REWRITE' };
  }
  if (config.appendfsync === 'always') return { level: 'ok', what, found: 'appendfsync always: what was answered is on the disk' };
  const found =
    config.appendfsync === 'everysec'
      ? 'appendfsync everysec: a crash of the machine loses up to 2 s: events that were answered with 202, and deployments'
      : 'appendfsync no: a crash of the machine loses what the kernel has not written, some 30 s: events that were answered with 202, and deployments';
  return {
    level: 'warn',
    what,
    found,
    remedy: 'CONFIG SET appendfsync always, CONFIG REWRITE; it costs a flush of the disk for each group of writes',
  };
}

function eviction(config: Readonly<Record<string, string>>): Finding[] {
  const what = 'store memory';
  const policy = config['maxmemory-policy'] ?? 'noeviction';
  if (policy !== 'noeviction')
    return [
      {
        level: 'fail',
        what,
        found: `maxmemory-policy ${policy}: when its memory is full, Redis throws functions and events away, and says nothing`,
        remedy: 'CONFIG SET maxmemory-policy noeviction, CONFIG REWRITE',
      },
    ];
  const limit = Number(config.maxmemory ?? 0);
  return [
    {
      level: 'ok',
      what,
      found: limit === 0 ? 'no limit, noeviction' : `${Math.round(limit / 1_048_576)} MiB, noeviction: when it is full, writes are refused`,
    },
  ];
}

function replication({ config, replicas }: RedisFacts): Finding[] {
  const what = 'store replicas';
  if (replicas === 0) return [];
  if (Number(config?.['min-replicas-to-write'] ?? 0) > 0)
    return [{ level: 'ok', what, found: `${replicas}; writes are refused while too few are in reach` }];
  const found = `${replicas}, which are written behind: where one takes over, what it had not received is lost`;
  return [{ level: 'warn', what, found, remedy: 'CONFIG SET min-replicas-to-write 1 narrows that; Redis has no way to close it' }];
}

function atLeast(version: string, oldest: string): boolean {
  const [a, b] = [version, oldest].map((text) => text.split('.').map(Number)) as [number[], number[]];
  return a[0]! > b[0]! || (a[0] === b[0] && (a[1] ?? 0) >= b[1]!);
}
