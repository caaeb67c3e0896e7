/**
 * The supervisor as a process of its own, for `fn up --detach`: its options come as JSON in
 * FN_SUPERVISOR, what it has to tell goes to its starter over the IPC channel while that listens.
 */
import { createLog } from '#kit/log.ts';
import { EXIT, toCliError } from '../errors.ts';
import type { SupervisorEvent, SupervisorOptions } from './options.ts';
import { Supervisor } from './supervisor.ts';

/** Longer than all that the parts are given to end. */
const SHUTDOWN_DEADLINE_MS = 120_000;

export async function runDetached(): Promise<void> {
  const log = createLog('supervisor', 'info');
  // Made by launch.ts of this very build.
  const options = JSON.parse(process.env.FN_SUPERVISOR ?? '{}') as SupervisorOptions;
  const report = (event: SupervisorEvent) => {
    if (process.connected) process.send?.(event);
    log.info(event, event.type === 'step' ? event.text : event.type);
  };
  const supervisor = new Supervisor(options, { env: process.env, report });
  let stopping = false;
  const stop = (signal: NodeJS.Signals) => {
    if (stopping) return;
    stopping = true;
    log.info({ signal }, 'going down');
    setTimeout(() => process.exit(EXIT.failed), SHUTDOWN_DEADLINE_MS).unref();
    supervisor.stop().then(
      () => process.exit(EXIT.ok),
      (error: unknown) => {
        log.error({ error: toCliError(error).message, details: toCliError(error).details }, 'not everything could be ended');
        process.exit(EXIT.failed);
      },
    );
  };
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
  // The terminal that started it is closed: that is what --detach is for.
  process.on('SIGHUP', () => {});
  try {
    await supervisor.start();
    process.disconnect?.();
  } catch (error) {
    const told = toCliError(error);
    report({ type: 'failed', message: told.message, details: told.details, hint: told.hint, exitCode: told.exitCode });
    // process.send is asynchronous: what was said must be out before the process is.
    if (process.connected) process.disconnect();
    process.exitCode = told.exitCode;
  }
}

if (import.meta.main) {
  await runDetached();
}
