/**
 * Where the store is, as `--store` and FN_STORE say it: `sqlite` (a file in the home), or
 * `redis://[USER[:PASSWORD]@]HOST[:PORT][/DB][?name=NAME]`, `rediss://` for TLS. NAME keeps two installations apart that share
 * a Redis; it is part of every key.
 */
export interface RedisAddress {
  kind: 'redis';
  host: string;
  port: number;
  tls: boolean;
  username: string | null;
  password: string | null;
  db: number;
  /** Of the installation: lower-case letters, digits, `-`. */
  name: string;
}

export type StoreAddress = { kind: 'sqlite' } | RedisAddress;

const DEFAULT_PORT = 6_379;
const DEFAULT_NAME = 'main';
const FORM = 'sqlite, redis://HOST:PORT or rediss://HOST:PORT (with /DB, USER:PASSWORD@ and ?name=NAME where they are needed)';

/** Throws an Error that says what is wrong, and never with the password in it. */
export function parseStoreUrl(text: string): StoreAddress {
  if (text === 'sqlite') return { kind: 'sqlite' };
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || (url.protocol !== 'redis:' && url.protocol !== 'rediss:') || url.hostname === '')
    throw new Error(`a store is ${FORM}`);
  const db = /^\/?(\d{0,5})$/.exec(url.pathname);
  if (db === null) throw new Error(`what follows the host of a store must be the number of its database, as in redis://${url.host}/0`);
  for (const parameter of url.searchParams.keys())
    if (parameter !== 'name') throw new Error(`a store has no parameter ${parameter}: there is name only`);
  const name = url.searchParams.get('name') ?? DEFAULT_NAME;
  if (!/^[a-z0-9][a-z0-9-]{0,62}$/.test(name))
    throw new Error(`the name of a store is lower-case letters, digits and "-", at most 63 of them`);
  return {
    kind: 'redis',
    host: url.hostname.replace(/^\[|\]$/g, ''),
    port: url.port === '' ? DEFAULT_PORT : Number(url.port),
    tls: url.protocol === 'rediss:',
    username: url.username === '' ? null : decoded(url.username),
    password: url.password === '' ? null : decoded(url.password),
    db: Number(db[1]),
    name,
  };
}

/** A `%` that encodes nothing is itself. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** The address as people and logs may see it: without the password. */
export function storeUrlToShow(address: StoreAddress): string {
  if (address.kind === 'sqlite') return 'sqlite';
  const { host, port, tls, username, db, name } = address;
  const user = username === null ? '' : `${encodeURIComponent(username)}@`;
  const shownHost = host.includes(':') ? `[${host}]` : host;
  return `${tls ? 'rediss' : 'redis'}://${user}${shownHost}:${port}/${db}${name === DEFAULT_NAME ? '' : `?name=${name}`}`;
}

/**
 * The address that is used where one was typed and one is in the environment: what is typed says where, and has no password, for
 * all users of the machine can read it; where the environment names the same place, its password goes with it.
 */
export function chooseStoreUrl(typed: string | undefined, env: string | undefined): string {
  if (typed === undefined) return env ?? 'sqlite';
  if (env === undefined) return typed;
  const wanted = parseStoreUrl(typed);
  const known = parseStoreUrl(env);
  const samePlace =
    wanted.kind === 'redis' &&
    known.kind === 'redis' &&
    storeUrlToShow({ ...wanted, username: null }) === storeUrlToShow({ ...known, username: null }) &&
    (wanted.username === null || wanted.username === known.username);
  return samePlace ? env : typed;
}

/** Where a Redis is and who we are to it, as ioredis takes it. */
export const redisEndpoint = ({ host, port, db, username, password, tls }: RedisAddress) => ({
  host,
  port,
  db,
  ...(username === null ? {} : { username }),
  ...(password === null ? {} : { password }),
  ...(tls ? { tls: { servername: host } } : {}),
});
