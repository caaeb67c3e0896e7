/** Starting and finding a supervisor from the command line. */
import { spawn } from 'node:child_process';
import { closeSync, mkdirSync } from 'node:fs';
import { sleep } from '#kit/clock.ts';
import type { HomePaths } from '#kit/paths.ts';
import { homePaths } from '#kit/paths.ts';
import type { Context } from '../context.ts';
import { CliError, EXIT } from '../errors.ts';
import { programFile } from '../root.ts';
import type { SupervisorState } from '../state.ts';
import { runningState } from '../state.ts';
import { lockOwner } from './lock.ts';
import { lastLines, logSize, openLog } from './log-files.ts';
import type { Report, SupervisorEvent, SupervisorOptions } from './options.ts';
import { NO_DEBUGGER } from './programs.ts';
import { Supervisor, lockPath } from './supervisor.ts';

/** How long another `fn up` is waited for; building runtime images takes most of it. */
const OTHER_START_TIMEOUT_MS = 300_000;
const POLL_MS = 100;

/** The supervisor that runs, after waiting for one that is starting; null where there is none. */
export async function findRunning(paths: HomePaths, signal: AbortSignal): Promise<SupervisorState | null> {
  const until = performance.now() + OTHER_START_TIMEOUT_MS;
  for (;;) {
    const state = runningState(paths);
    if (state?.phase === 'ready') return state;
    if (lockOwner(lockPath(paths)) === null) return null;
    if (performance.now() >= until)
      throw new CliError(`another fn has been starting in ${paths.home} for ${OTHER_START_TIMEOUT_MS / 60_000} minutes`, {
        hint: 'fn down ends it.',
      });
    await sleep(POLL_MS, signal);
  }
}

/** Starts a supervisor that goes on when this process ends; resolves when it is ready. Throws what it failed with. */
export async function startDetached(ctx: Context, options: SupervisorOptions, report: Report): Promise<SupervisorState> {
  const paths = homePaths(options.home);
  mkdirSync(paths.logs, { recursive: true, mode: 0o700 });
  const logFd = openLog(paths.logs, 'supervisor');
  const logFrom = logSize(paths.logs, 'supervisor');
  const child = spawn(process.execPath, [NO_DEBUGGER, programFile('supervisor')], {
    env: { ...ctx.env, FN_SUPERVISOR: JSON.stringify(options) },
    cwd: '/',
    detached: true,
    stdio: ['ignore', logFd, logFd, 'ipc'],
  });
  closeSync(logFd);
  const abort = () => child.kill('SIGTERM');
  ctx.signal.addEventListener('abort', abort, { once: true });
  try {
    await new Promise<void>((resolve, reject) => {
      let failure: CliError | null = null;
      child.on('message', (message) => {
        // From our own program, over a channel that nobody else has.
        const event = message as SupervisorEvent;
        if (event.type === 'ready') resolve();
        else if (event.type === 'failed') failure = failed(event);
        else report(event);
      });
      child.once('error', reject);
      child.once('exit', (code, signal) => {
        const how = signal === null ? `exit code ${code}` : `signal ${signal}`;
        reject(
          failure ??
            new CliError(`the supervisor ended while starting: ${how}`, { details: lastLines(paths.logs, 'supervisor', 8, logFrom) }),
        );
      });
    });
  } catch (error) {
    if (ctx.signal.aborted) throw new CliError('interrupted: it did not start', { exitCode: EXIT.interrupted });
    // Of two that begin at once, the one that came second waits for the first, as it would have a moment later.
    const first = await findRunning(paths, ctx.signal);
    if (first === null) throw error;
    return first;
  } finally {
    ctx.signal.removeEventListener('abort', abort);
  }
  if (child.connected) child.disconnect();
  child.unref();
  const state = runningState(paths);
  if (state === null)
    throw new CliError('the supervisor ended right after it was ready', { details: lastLines(paths.logs, 'supervisor', 8, logFrom) });
  return state;
}

function failed({ message, details, hint, exitCode }: Extract<SupervisorEvent, { type: 'failed' }>): CliError {
  const known = Object.values(EXIT).find((code) => code === exitCode) ?? EXIT.failed;
  return new CliError(message, { details, hint, exitCode: known });
}

/** Runs a supervisor in this process until Ctrl-C or SIGTERM; resolves when everything has ended. */
export async function runForeground(ctx: Context, options: SupervisorOptions, report: Report): Promise<{ interrupted: boolean }> {
  const supervisor = new Supervisor(options, { env: ctx.env, report });
  const ended = Promise.withResolvers<{ interrupted: boolean }>();
  const stop = (interrupted: boolean) => () => {
    supervisor.stop().then(() => ended.resolve({ interrupted }), ended.reject);
  };
  const onInterrupt = stop(true);
  const onTerm = stop(false);
  ctx.signal.addEventListener('abort', onInterrupt, { once: true });
  process.once('SIGTERM', onTerm);
  process.once('SIGHUP', onTerm);
  try {
    await supervisor.start();
    return await ended.promise;
  } finally {
    ctx.signal.removeEventListener('abort', onInterrupt);
    process.off('SIGTERM', onTerm);
    process.off('SIGHUP', onTerm);
  }
}
