/** What the platform's processes answer when the supervisor asks them: that they are there, which controller leads, that it will end. */
import type { Clock } from '#kit/clock.ts';
import { sleep } from '#kit/clock.ts';
import type { Log } from '#kit/log.ts';
import type { HomePaths } from '#kit/paths.ts';
import { CliError } from '../errors.ts';
import type { Reply } from '../http.ts';
import { readBody, request } from '../http.ts';

/** From the start of a process until it answers. */
const START_TIMEOUT_MS = 60_000;
const PROBE_INTERVAL_MS = 20;
const PROBE_TIMEOUT_MS = 2_000;
const MAX_STATUS_BYTES = 16 * 1024 * 1024;

export interface Waiting {
  clock: Clock;
  /** It is not waited for any more. */
  stopped: () => boolean;
  /** What the process wrote, for the error that says why it did not come up. */
  lastLines: () => string[];
}

/** Asks again and again until the answer is 200. Throws CliError where it is none in a minute. */
export async function untilAnswers(name: string, probe: () => Promise<Reply>, { clock, stopped, lastLines }: Waiting): Promise<void> {
  const until = clock.now() + START_TIMEOUT_MS;
  let last = 'nothing was tried';
  while (clock.now() < until && !stopped()) {
    try {
      const reply = await probe();
      await readBody(reply, MAX_STATUS_BYTES);
      if (reply.status === 200) return;
      last = `it answered ${reply.status}`;
    } catch (error) {
      // Not listening yet is what is waited for; what it was at last is told below.
      last = error instanceof Error ? error.message : String(error);
    }
    await sleep(PROBE_INTERVAL_MS);
  }
  throw new CliError(`the ${name} did not answer within ${START_TIMEOUT_MS / 1_000} s: ${last}`, { details: lastLines() });
}

/** `url`: of the public socket. */
export const askGateway = (url: URL): Promise<Reply> =>
  request({ url }, { method: 'GET', path: '/.fn/ready', timeoutMs: PROBE_TIMEOUT_MS });

export const askStatus = (paths: HomePaths): Promise<Reply> => ask(paths, 'GET', '/v1/status');

/** Whichever controller leads answers there. */
const ask = (paths: HomePaths, method: 'GET' | 'POST', path: string): Promise<Reply> =>
  request({ socketPath: paths.controlSocket }, { method, path, timeoutMs: PROBE_TIMEOUT_MS });

/** Process id of the controller that leads; null where none says so. */
export async function askLeader(paths: HomePaths, log: Log): Promise<number | null> {
  try {
    const reply = await askStatus(paths);
    const answer: unknown = JSON.parse((await readBody(reply, MAX_STATUS_BYTES)).toString());
    return statusPid(answer);
  } catch (error) {
    log.warn({ error: error instanceof Error ? error.message : String(error) }, 'no controller leads that could be asked');
    return null;
  }
}

/** By hand, as everything that the supervisor reads: see parseState. */
function statusPid(answer: unknown): number | null {
  const controller: unknown = typeof answer === 'object' && answer !== null ? Reflect.get(answer, 'controller') : null;
  const pid: unknown = typeof controller === 'object' && controller !== null ? Reflect.get(controller, 'pid') : null;
  return typeof pid === 'number' ? pid : null;
}

/** True where the controller that leads ends its instances, and then itself. */
export async function askShutdown(paths: HomePaths, log: Log): Promise<boolean> {
  try {
    const reply = await ask(paths, 'POST', '/v1/shutdown');
    await readBody(reply, 1024 * 1024);
    return reply.status === 202;
  } catch (error) {
    log.warn(
      { error: error instanceof Error ? error.message : String(error) },
      'the controller cannot be asked to end: cleaning up without it',
    );
    return false;
  }
}
