/** Follows what happens to the containers of a home, through restarts of the engine. */
import { backoffMs } from '#kit/backoff.ts';
import { sleep } from '#kit/clock.ts';
import type { Log } from '#kit/log.ts';
import { LineSplitter } from '#kit/ndjson.ts';
import { LABELS } from './container.ts';
import type { Engine } from './engine.ts';

/** Longest event that is believed, bytes. It holds the container's labels. */
const MAX_EVENT_BYTES = 256 * 1024;
/** Until an engine that is back is found, nobody hears of an end, and clients wait for its cause. */
const RECONNECT = { baseMs: 50, maxMs: 500 } as const;

export interface ContainerEvent {
  action: 'die' | 'oom' | 'destroy';
  container: string;
  /** Our id of it. */
  id: string;
  exitCode: number | null;
}

export interface WatchOptions {
  engine: Engine;
  homeId: string;
  log: Log;
  onEvent: (event: ContainerEvent) => void;
  /** Called after each connection, before its events: what happened before it must be read from the list. */
  onConnect: () => Promise<void>;
}

export class Watch {
  readonly #options: WatchOptions;
  readonly #stop = new AbortController();
  #loop: Promise<void> = Promise.resolve();

  constructor(options: WatchOptions) {
    this.#options = options;
  }

  /** Resolves once events arrive. Throws where the first connection fails; later ones are tried for ever. */
  async start(): Promise<void> {
    const stream = await this.#connect();
    this.#loop = this.#run(stream);
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await this.#loop;
  }

  async #connect(): Promise<NodeJS.ReadableStream> {
    const stream = await this.#options.engine.events(`${LABELS.home}=${this.#options.homeId}`, this.#stop.signal);
    await this.#options.onConnect();
    return stream;
  }

  async #run(first: NodeJS.ReadableStream): Promise<void> {
    const { log } = this.#options;
    let stream: NodeJS.ReadableStream | null = first;
    for (let failures = 0; !this.#stop.signal.aborted;) {
      try {
        stream ??= await this.#connect();
        failures = 0;
        await this.#read(stream);
        log.warn({}, 'the Docker engine ended its events; connecting again');
      } catch (error) {
        if (this.#stop.signal.aborted) return;
        // Every failure would flood the log while the engine is down.
        if (failures < 3)
          log.warn({ error: error instanceof Error ? error.message : String(error) }, 'the Docker engine cannot be followed; trying again');
      }
      stream = null;
      failures += 1;
      await sleep(backoffMs(failures, RECONNECT), this.#stop.signal).catch(() => {}); // Aborted: the loop ends.
    }
  }

  async #read(stream: NodeJS.ReadableStream): Promise<void> {
    const lines = new LineSplitter(MAX_EVENT_BYTES);
    for await (const chunk of stream) {
      for (const line of lines.push(Buffer.isBuffer(chunk) ? chunk : Buffer.from(chunk))) {
        const event = parseEvent(line);
        if (event) this.#options.onEvent(event);
      }
    }
  }
}

/** An event of the engine (`GET /events`), or null where it is none of those asked for. */
export function parseEvent(line: string): ContainerEvent | null {
  const event: unknown = JSON.parse(line);
  const action = read(event, 'Action');
  const actor = read(event, 'Actor');
  const attributes = read(actor, 'Attributes');
  const id = read(attributes, LABELS.instance);
  const container = read(actor, 'ID');
  if (typeof id !== 'string' || typeof container !== 'string') return null;
  if (action !== 'die' && action !== 'oom' && action !== 'destroy') return null;
  const code = Number(read(attributes, 'exitCode') ?? Number.NaN);
  return { action, container, id, exitCode: Number.isInteger(code) ? code : null };
}

function read(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined;
}
