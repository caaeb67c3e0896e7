/** What a pod writes, until it ends or is aborted. A stream that breaks off, or ends while the pod runs, is taken up where it was. */
import { backoffMs } from '#kit/backoff.ts';
import { sleep } from '#kit/clock.ts';
import { KubeError, KubeUnreachable, type KubeApi } from '../../kube/types.ts';
import type { LogChunk } from '../types.ts';
import { LogEntries } from './log-entries.ts';
import { LogPlace } from './log-place.ts';
import { CONTAINER } from './pod.ts';

/** Before a stream is opened again: after one that brought something, and up to this where nothing can be had, ms. */
const REOPEN = { baseMs: 200, maxMs: 5_000, jitter: 0.25 } as const;

export interface LogSource {
  api: KubeApi;
  namespace: string;
  pod: string;
  /** Its process has ended, or it is gone. */
  ended: () => boolean;
  /** Aborted where the way to the API server has turned out to be dead: a stream cannot tell that from a function that says nothing. */
  connection: () => AbortSignal;
}

/** stdout and stderr are one stream here: the kubelet does not tell them apart. */
export async function* followLogs(source: LogSource, after: string | null, signal: AbortSignal): AsyncGenerator<LogChunk> {
  const place = new LogPlace(after);
  for (let fruitless = 0; !signal.aborted; place.rewind()) {
    // What it wrote last may come after a stream broke off: one stream is read to its end after it has ended.
    const last = source.ended();
    const broken = source.connection();
    try {
      for await (const chunk of readOnce(source, place, AbortSignal.any([signal, broken]))) {
        fruitless = 0;
        yield chunk;
      }
      if (last) return;
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof KubeError && error.reason === 'NotFound') return;
      if (!broken.aborted && !isPassing(error)) throw error;
    }
    fruitless += 1;
    await sleep(backoffMs(fruitless, REOPEN), signal).catch(() => {}); // Aborted: the loop ends.
  }
}

async function* readOnce({ api, namespace, pod }: LogSource, place: LogPlace, signal: AbortSignal): AsyncGenerator<LogChunk> {
  const entries = new LogEntries();
  let given = true;
  let at = 0;
  let lost = false;
  for await (const bytes of api.podLog(namespace, pod, { container: CONTAINER, sinceTime: place.since }, signal)) {
    for (const { stamp, data } of entries.push(bytes)) {
      if (stamp !== null) {
        const verdict = place.take(stamp);
        given = verdict === 'known';
        lost = verdict === 'lost';
        at = stamp.second * 1_000 + Number(stamp.key.slice(-9, -6));
      }
      if (given) continue;
      yield { stream: 'stdout', data, position: place.position, at, ...(lost ? { lostBytes: 0 } : {}) };
      lost = false;
    }
  }
}

/** The server or the node cannot just now; or the container does not run yet (400). */
const isPassing = (error: unknown): boolean =>
  error instanceof KubeUnreachable || (error instanceof KubeError && (error.status === 400 || error.status === 429 || error.status >= 500));

/** The end of what a container wrote since `sinceTime`, once it has ended; '' where that cannot be had. */
export async function outputTail(source: LogSource, sinceTime: string | null, bytes: number, timeoutMs: number): Promise<string> {
  const entries = new LogEntries();
  let tail = Buffer.alloc(0);
  try {
    const options = { container: CONTAINER, sinceTime };
    for await (const chunk of source.api.podLog(source.namespace, source.pod, options, AbortSignal.timeout(timeoutMs)))
      for (const { data } of entries.push(chunk)) tail = Buffer.concat([tail, data]).subarray(-bytes);
  } catch {
    // What there is of it says what it says: why it cannot be read is no reason of its end.
  }
  return tail.toString('utf8');
}
