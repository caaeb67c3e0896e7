/** `fn down`: ends a supervisor, or what one that was killed left behind. */
import { closeSync, existsSync } from 'node:fs';
import type { HomePaths } from '#kit/paths.ts';
import { findEngine } from '../engine.ts';
import { CliError, EXIT } from '../errors.ts';
import type { ProcessIdentity } from '../process-identity.ts';
import { endProcess, signal, waitGone } from '../process-identity.ts';
import { readState, removeState } from '../state.ts';
import { acquireLock, lockOwner } from './lock.ts';
import type { DriverName } from './options.ts';
import { openLog } from './log-files.ts';
import { controllerEnv, preparePrograms } from './programs.ts';
import { makeRunDir, removeRunDir } from './run-dir.ts';
import { cleanUp, lockPath } from './supervisor.ts';

/** More than the supervisor gives all its parts together. */
const DOWN_TIMEOUT_MS = 115_000;
const ORPHAN_GRACE_MS = 10_000;

export type DownResult = 'stopped' | 'cleaned-up' | 'was-not-running';

/** Ends everything of this home; what is deployed stays. Idempotent. Throws CliError. */
export async function bringDown(paths: HomePaths, env: NodeJS.ProcessEnv): Promise<DownResult> {
  const owner = lockOwner(lockPath(paths));
  if (owner !== null) {
    await endSupervisor(owner);
    // It leaves nothing behind, unless it was killed meanwhile.
    if (!existsSync(paths.runDir)) return 'stopped';
  }
  const state = readState(paths);
  if (state === null && !existsSync(paths.runDir)) return 'was-not-running';
  const release = acquireLock(lockPath(paths));
  if (release === null) throw new CliError(`another fn is starting in ${paths.home}`, { hint: 'Try again.' });
  try {
    const children = Object.values(state?.children ?? {}).filter((child) => child !== undefined);
    await Promise.all(children.map((child) => endProcess(child, ORPHAN_GRACE_MS)));
    await removeRemains(paths, kubernetesOf(state?.started, env), state?.driver);
    removeState(paths);
  } finally {
    release();
  }
  return owner === null ? 'cleaned-up' : 'stopped';
}

async function endSupervisor(owner: ProcessIdentity): Promise<void> {
  try {
    signal(owner.pid, 'SIGTERM');
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EPERM')) throw error;
    throw new CliError(`the supervisor (pid ${owner.pid}) belongs to another user`, {
      exitCode: EXIT.notAuthorised,
      hint: 'Run fn down as that user.',
      cause: error,
    });
  }
  if (await waitGone(owner, DOWN_TIMEOUT_MS)) return;
  throw new CliError(`the supervisor (pid ${owner.pid}) still runs after ${DOWN_TIMEOUT_MS / 1_000} s`, {
    hint: 'See supervisor.log in the home’s logs folder.',
  });
}

/** Which cluster it was, as far as the platform that was killed had settled it. */
function kubernetesOf(started: Readonly<Record<string, string>> | undefined, env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return started?.kubernetes === undefined ? env : { ...env, FN_KUBERNETES: started.kubernetes };
}

/** A controller that does nothing but destroy knows best what there is. */
async function removeRemains(paths: HomePaths, env: NodeJS.ProcessEnv, known: DriverName | undefined): Promise<void> {
  const asRoot = process.getuid?.() === 0;
  const engine = await findEngine(env);
  const driver = known ?? (engine.kind === 'ready' ? 'docker' : 'process');
  makeRunDir(paths, asRoot);
  const logFd = openLog(paths.logs, 'controller');
  const programs = preparePrograms(paths, asRoot);
  try {
    // Nothing is stored or asked for there: what FN_STORE says, right or wrong, is not looked at.
    const own = {
      FN_HOME: paths.home,
      FN_DRIVER: driver,
      FN_PUBLIC_URL: 'http://127.0.0.1',
      FN_STORE: 'sqlite',
      DOCKER_HOST: engine.where,
    };
    await cleanUp(programs, controllerEnv(env, own), logFd);
  } finally {
    closeSync(logFd);
    if (programs.nodeFd !== null) closeSync(programs.nodeFd);
  }
  removeRunDir(paths, asRoot);
}
