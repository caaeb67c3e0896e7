/** How the platform's processes are started: which file, as whom, with which environment. */
import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { copyFileSync, openSync } from 'node:fs';
import { join } from 'node:path';
import type { HomePaths } from '#kit/paths.ts';
import { bundled, programFile } from '../root.ts';
import { GATEWAY_GID, GATEWAY_UID } from './run-dir.ts';

/** Where a child finds the public socket. */
const LISTEN_FD = 3;
/** Where the gateway finds the Node that it is: see openNode. */
const NODE_FD = 4;
/** Where it finds the socket for TLS, where there is one. */
const TLS_LISTEN_FD = 5;

/**
 * V8 lets its young generation grow to 3 × 16 MiB under load and keeps it, in pages that nothing else
 * uses. The controller's load is short and its garbage little: 2 MiB cost it nothing and save 80 MB
 * after a burst. The gateway allocates with every request, so it gets more.
 */
const CONTROLLER_FLAGS = ['--max-semi-space-size=2'];
const GATEWAY_FLAGS = ['--max-semi-space-size=8'];

/**
 * On SIGUSR1 Node opens its debugger, which runs whatever who connects to it says. A function that is a
 * process of the same user may send that signal, --permission or not.
 */
export const NO_DEBUGGER = '--disable-sigusr1';

export interface Programs {
  gateway: string[];
  controller: string[];
  /** Open file of this Node's executable, as root only. */
  nodeFd: number | null;
}

/** Files of the programs, with a copy of the gateway where its own uid can read it. */
export function preparePrograms(paths: HomePaths, asRoot: boolean): Programs {
  const controller = [...CONTROLLER_FLAGS, programFile('controller')];
  if (!asRoot) return { gateway: [...GATEWAY_FLAGS, programFile('gateway')], controller, nodeFd: null };
  return {
    gateway: [...GATEWAY_FLAGS, bundled ? readableCopy(paths) : programFile('gateway')],
    controller,
    nodeFd: openSync(process.execPath, 'r'),
  };
}

/** The clone may be under /root, where only root can pass: the gateway's bundle goes where its uid can read it. */
function readableCopy(paths: HomePaths): string {
  const copy = join(paths.runDir, 'gateway.mjs');
  copyFileSync(programFile('gateway'), copy);
  // What it loads where telemetry is configured.
  copyFileSync(programFile('telemetry'), join(paths.runDir, 'telemetry.mjs'));
  return copy;
}

/** Starts the controller, with all rights of who started fn. */
export function spawnController(programs: Programs, env: NodeJS.ProcessEnv, logFd: number, args: string[] = []): ChildProcess {
  // A process group of its own: Ctrl-C in the terminal is for the supervisor, which ends things in order.
  return spawn(process.execPath, [NO_DEBUGGER, ...programs.controller, ...args], { env, detached: true, stdio: ['ignore', logFd, logFd] });
}

/**
 * Starts the gateway, as root under a uid of its own. Its executable is then named by an open file:
 * the path to it (/root/…/node) need not be passable for that uid, the file itself is world-readable.
 */
export function spawnGateway(
  programs: Programs,
  env: NodeJS.ProcessEnv,
  logFd: number,
  { listenFd, tlsListenFd = null }: { listenFd: number; tlsListenFd?: number | null },
): ChildProcess {
  const tlsEnv = tlsListenFd === null ? {} : { FN_TLS_LISTEN_FD: String(TLS_LISTEN_FD) };
  const common = { env: { ...env, FN_LISTEN_FD: String(LISTEN_FD), ...tlsEnv }, detached: true };
  const { nodeFd } = programs;
  const args = [NO_DEBUGGER, ...programs.gateway];
  if (nodeFd === null)
    return spawn(process.execPath, args, { ...common, stdio: ['ignore', logFd, logFd, listenFd, 'ignore', tlsListenFd ?? 'ignore'] });
  return spawn(`/proc/self/fd/${NODE_FD}`, args, {
    ...common,
    argv0: 'node',
    cwd: '/',
    uid: GATEWAY_UID,
    gid: GATEWAY_GID,
    stdio: ['ignore', logFd, logFd, listenFd, nodeFd, tlsListenFd ?? 'ignore'],
  });
}

/** Of the CLI, or secrets: not for the process that faces the internet. */
const NOT_FOR_GATEWAY: ReadonlySet<string> = new Set([
  'FN_TOKEN',
  'FN_URL',
  'FN_HOME',
  'FN_SUPERVISOR',
  'FN_RUNTIME_IMAGES',
  'FN_RUNTIME_SHIMS',
  'FN_API_LISTEN',
  'FN_TLS_CERTS',
  'FN_TLS_LISTEN',
  'FN_TLS_URL',
  'FN_SECRET_KEY_FILE',
  'FN_STORE',
]);
const NEUTRAL: ReadonlySet<string> = new Set(['TZ', 'LANG', 'LC_ALL']);

/** The gateway gets its settings and nothing of who started it: no credentials that lie about in an environment. */
export function gatewayEnv(env: NodeJS.ProcessEnv, own: Record<string, string>): NodeJS.ProcessEnv {
  // OTEL_…: it sends its spans to the collector by itself.
  const settings = (name: string) => name.startsWith('OTEL_') || (name.startsWith('FN_') && !NOT_FOR_GATEWAY.has(name));
  const kept = Object.entries(env).filter(([name]) => NEUTRAL.has(name) || settings(name));
  return { ...Object.fromEntries(kept), ...own };
}

/**
 * The glibc gives each thread that allocates at the same time as another an arena of its own, up to eight a core, and what was freed in
 * one stays there. Controller and dispatcher have a dozen threads (V8's, libuv's) for one that works: with two arenas they take as
 * much CPU and 5 MiB less at rest, the dispatcher 25 MiB less under load. Another libc does not know it.
 */
const ARENAS = { MALLOC_ARENA_MAX: '2' };

/** The controller gets what the person has (DOCKER_HOST, PATH), but for the CLI's own settings; the dispatcher has it from the controller. */
export function controllerEnv(env: NodeJS.ProcessEnv, own: Record<string, string>): NodeJS.ProcessEnv {
  const { FN_TOKEN: _token, FN_URL: _url, FN_SUPERVISOR: _supervisor, ...rest } = env;
  return { ...ARENAS, ...rest, ...own };
}
