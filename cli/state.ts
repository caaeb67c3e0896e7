/** supervisor.json: what runs under a home, and how others find it. */
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import type { HomePaths } from '#kit/paths.ts';
import type { ProcessIdentity } from './process-identity.ts';
import { isAlive, parseIdentity } from './process-identity.ts';

/** `starting` until everything answers. */
const PHASES = ['starting', 'ready', 'stopping'] as const;
const DRIVERS = ['docker', 'process', 'kubernetes'] as const;

export interface SupervisorState extends ProcessIdentity {
  phase: (typeof PHASES)[number];
  version: string;
  host: string;
  port: number;
  url: string;
  /** Where TLS is served; absent without it. */
  tlsUrl?: string;
  driver: (typeof DRIVERS)[number];
  /** What it was started with beside host and port, as text by option of `fn up`. */
  started: Readonly<Record<string, string>>;
  /** By name: `gateway`, `controller`, and where there are more of them `gateway-2`, `controller-2` … */
  children: Readonly<Record<string, ProcessIdentity>> & { gateway?: ProcessIdentity; controller?: ProcessIdentity };
}

/** The state as it was last written, or null. What cannot be read as one is as good as none. */
export function readState(paths: HomePaths): SupervisorState | null {
  let text: string;
  try {
    text = readFileSync(paths.supervisorFile, 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null;
    throw error;
  }
  try {
    return parseState(JSON.parse(text));
  } catch {
    // Not JSON: there is nothing in it that could be used.
    return null;
  }
}

/** By hand and not by a schema: the supervisor reads it, and zod would be a fifth of its memory. */
function parseState(value: unknown): SupervisorState | null {
  const identity = parseIdentity(value);
  if (identity === null || typeof value !== 'object' || value === null) return null;
  const field = (name: string): unknown => Reflect.get(value, name);
  const [version, host, port, url] = [field('version'), field('host'), field('port'), field('url')];
  const phase = PHASES.find((known) => known === field('phase'));
  const driver = DRIVERS.find((known) => known === field('driver'));
  if (typeof version !== 'string' || typeof host !== 'string' || typeof port !== 'number' || typeof url !== 'string' || !phase || !driver)
    return null;
  const children = field('children');
  if (typeof children !== 'object' || children === null) return null;
  const tlsUrl = field('tlsUrl');
  return {
    ...identity,
    phase,
    version,
    host,
    port,
    url,
    ...(typeof tlsUrl === 'string' ? { tlsUrl } : {}),
    driver,
    started: textsOf(field('started')),
    children: identitiesOf(children),
  };
}

/** What is no identity is left out. */
function identitiesOf(value: object): Record<string, ProcessIdentity> {
  const pairs = Object.entries(value).map(([name, child]) => [name, parseIdentity(child)] as const);
  return Object.fromEntries(pairs.filter((pair): pair is readonly [string, ProcessIdentity] => pair[1] !== null));
}

/** What is no text is left out; a version that wrote none had nothing to say. */
function textsOf(value: unknown): Record<string, string> {
  if (typeof value !== 'object' || value === null) return {};
  return Object.fromEntries(Object.entries(value).filter((entry): entry is [string, string] => typeof entry[1] === 'string'));
}

/** Whoever reads sees the old or the new one, never half of it. */
export function writeState(paths: HomePaths, state: SupervisorState): void {
  const temporary = `${paths.supervisorFile}.${process.pid}`;
  writeFileSync(temporary, `${JSON.stringify(state, null, 2)}\n`, { mode: 0o600 });
  renameSync(temporary, paths.supervisorFile);
}

export function removeState(paths: HomePaths): void {
  rmSync(paths.supervisorFile, { force: true });
}

/** The state of a supervisor that lives, or null. */
export function runningState(paths: HomePaths): SupervisorState | null {
  const state = readState(paths);
  return state !== null && isAlive(state) ? state : null;
}
