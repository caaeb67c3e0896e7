/** Log lines that go on over a restart of the controller. */
import type { LogEntry } from '#contract/api.ts';
import { backoffMs } from '#kit/backoff.ts';
import { sleep } from '#kit/clock.ts';
import type { ApiClient, LogOptions } from './client.ts';
import { CliError, EXIT } from './errors.ts';

/** How long a controller that went away is waited for, in all tries. */
const RECONNECT_TIMEOUT_MS = 60_000;
const RECONNECT_BACKOFF = { baseMs: 100, maxMs: 2_000, jitter: 0.2 } as const;

/** What a function logged. With `follow` a connection that ends is made again, and no line comes twice. */
export async function* readLogs(
  client: Pick<ApiClient, 'logs'>,
  namespace: string,
  name: string,
  options: LogOptions,
  signal: AbortSignal,
): AsyncIterable<LogEntry> {
  if (!options.follow) {
    yield* client.logs(namespace, name, options);
    return;
  }
  const seen = new Seen();
  let lostAt: number | null = null;
  for (let attempt = 1; !signal.aborted; attempt += 1) {
    const { limit: _limit, ...asked } = options;
    const resumed = seen.since === null ? options : { ...asked, since: seen.since };
    try {
      for await (const entry of client.logs(namespace, name, resumed)) {
        lostAt = null;
        attempt = 0;
        if (seen.isNew(entry)) yield entry;
      }
    } catch (error) {
      if (signal.aborted) return;
      if (!isLost(error)) throw error;
      // The first connection must succeed: nobody waits a minute to read that fn is not running.
      if (seen.since === null && lostAt === null) throw error;
    }
    lostAt ??= performance.now();
    if (performance.now() - lostAt > RECONNECT_TIMEOUT_MS)
      throw new CliError('the controller went away', { exitCode: EXIT.unreachable, hint: 'See fn status.' });
    try {
      await sleep(backoffMs(attempt, RECONNECT_BACKOFF), signal);
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }
}

/** Whether the connection broke, as against an answer that says no. */
function isLost(error: unknown): boolean {
  if (error instanceof CliError) return error.exitCode === EXIT.unreachable;
  return error instanceof Error && 'code' in error && (error.code === 'ECONNRESET' || error.code === 'ERR_STREAM_PREMATURE_CLOSE');
}

/** The lines of the newest millisecond: `since` brings just these again. */
class Seen {
  since: number | null = null;
  #newest = new Set<string>();

  isNew(entry: LogEntry): boolean {
    const text = JSON.stringify(entry);
    if (this.since !== null && entry.t <= this.since) {
      if (entry.t === this.since && this.#newest.has(text)) return false;
      this.#newest.add(text);
      return true;
    }
    this.since = entry.t;
    this.#newest = new Set([text]);
    return true;
  }
}
