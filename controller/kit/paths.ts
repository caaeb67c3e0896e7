/**
 * Where things are on one host. The home keeps what must last (mode 0700); the run folder keeps
 * sockets and instances, and may be elsewhere: the gateway, under a uid of its own, must be able to
 * pass through it, and the path of a unix socket has at most 107 bytes.
 */
import { mkdirSync, realpathSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { shortHash } from './ids.ts';

/** Longest path of a unix socket on Linux, without its NUL (unix(7)). */
export const MAX_SOCKET_PATH_BYTES = 107;

/** What is added to the run folder at most: /instances/i-xxxxxxxxxxxx/sock/s */
const LONGEST_SUFFIX_BYTES = '/instances/i-xxxxxxxxxxxx/sock/s'.length;

export interface HomePaths {
  home: string;
  /** 8 hex digits that tell this home's containers, networks and cgroups from another's. */
  homeId: string;
  /** The control API's socket. Owner only. */
  controlSocket: string;
  /** Token file for the control API over TCP, mode 0600; there only where that is on. */
  tokenFile: string;
  /** Key that secrets are sealed with, mode 0600: outside the store, so that a copy of the store alone tells nothing. */
  secretKey: string;
  database: string;
  /** Journal of calls: may be lost. */
  callsDatabase: string;
  /** Code caches that instances of functions made; never loaded by the platform. */
  codeCaches: string;
  /** Events that were accepted and are not over: the dispatcher's. */
  eventsDatabase: string;
  bundles: string;
  logs: string;
  /** JSON with the pids and URLs of what runs; written by the supervisor. */
  supervisorFile: string;
  runDir: string;
  /** Folder of its own, which the gateway's group may enter. */
  linkSocket: string;
  /** Where the dispatcher waits for gateways: a folder of its own, as the link's. */
  eventsSocket: string;
  /** One folder per instance: sock/ (the socket is sock/s), private/code/. */
  instances: string;
  /** One JSON file per instance, outside what any instance can see. */
  records: string;
}

export function defaultHome(env: NodeJS.ProcessEnv = process.env): string {
  return resolve(env.FN_HOME ?? join(homedir(), '.fn'));
}

/** Paths of a home, which is made if it is not there. Pure but for that: the same home, the same paths. */
export function homePaths(home: string, uid = process.getuid?.() ?? 0): HomePaths {
  mkdirSync(home, { recursive: true, mode: 0o700 });
  return pathsIn(realpathSync(home), uid);
}

/** The same for who only looks: a home that is not there is not made, and nothing is at its paths. */
export function plannedPaths(home: string, uid = process.getuid?.() ?? 0): HomePaths {
  try {
    return pathsIn(realpathSync(home), uid);
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return pathsIn(resolve(home), uid);
    throw error;
  }
}

function pathsIn(real: string, uid: number): HomePaths {
  const homeId = shortHash(real);
  const inHome = join(real, 'run');
  let runDir: string;
  if (uid === 0) runDir = `/run/fn/${homeId}`;
  else if (Buffer.byteLength(inHome) + LONGEST_SUFFIX_BYTES <= MAX_SOCKET_PATH_BYTES) runDir = inHome;
  else runDir = join(tmpdir(), `fn-${uid}-${homeId}`);
  return {
    home: real,
    homeId,
    controlSocket: join(runDir, 'control', 's'),
    tokenFile: join(real, 'token'),
    secretKey: join(real, 'secret.key'),
    database: join(real, 'fn.db'),
    callsDatabase: join(real, 'calls.db'),
    codeCaches: join(real, 'code-caches'),
    eventsDatabase: join(real, 'events.db'),
    bundles: join(real, 'bundles'),
    logs: join(real, 'logs'),
    supervisorFile: join(real, 'supervisor.json'),
    runDir,
    linkSocket: join(runDir, 'link', 's'),
    eventsSocket: join(runDir, 'events', 's'),
    instances: join(runDir, 'instances'),
    records: join(runDir, 'records'),
  };
}
