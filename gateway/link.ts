/**
 * The gateway's end of the link (docs/leases.md; sections in brackets): connects, says hello, hands
 * over what the controller says, and connects again when it breaks, for as long as it takes.
 */
import type { Socket } from 'node:net';
import { ControllerMessage, type GatewayMessage, type Lease, MAX_LINK_LINE_BYTES } from '#contract/link.ts';
import { type BackoffOptions, backoffMs } from '#kit/backoff.ts';
import type { Clock } from '#kit/clock.ts';
import type { Log } from '#kit/log.ts';
import { endLines, LineDialer } from '#kit/line-client.ts';
import { type LinkTarget, showEndpoint } from '#kit/link-endpoint.ts';
import { encodeLine } from '#kit/ndjson.ts';

/** Between attempts to connect. A restarted controller is found within a second at worst. */
const RECONNECT: BackoffOptions = { baseMs: 10, maxMs: 1_000, jitter: 0.3 };
/** Without welcome after this the controller is taken for stuck; its inventory takes well below. */
const WELCOME_TIMEOUT_MS = 60_000;
/** What may lie unsent on the link before the controller is taken for stuck, bytes. */
const MAX_UNSENT_BYTES = 8 * 1_024 * 1_024;

export type Welcome = Extract<ControllerMessage, { type: 'welcome' }>;

export interface LinkEvents {
  /** [3] What hello tells. */
  held(): Lease[];
  onWelcome(message: Welcome): void;
  onMessage(message: Exclude<ControllerMessage, Welcome>): void;
  /** After a welcome. */
  onDown(): void;
}

export interface LinkOptions {
  target: LinkTarget;
  gateway: string;
  boot: string;
  pid: number;
  clock: Clock;
  log: Log;
  events: LinkEvents;
}

function uncork(socket: Socket): void {
  socket.uncork();
}

export class LinkClient {
  readonly #options: LinkOptions;
  readonly #dialer: LineDialer;
  #socket: Socket | null = null;
  #up = false;
  #attempt = 0;
  #closed = false;
  /** [1] The highest term seen. */
  #term = 0;
  #cancelTimer: () => void = () => {};

  constructor(options: LinkOptions) {
    this.#options = options;
    this.#dialer = new LineDialer(options.target);
  }

  /** Between welcome and the end of the connection. */
  get up(): boolean {
    return this.#up;
  }

  get term(): number {
    return this.#term;
  }

  start(): void {
    this.#connect();
  }

  /** False where there is nobody to tell: what matters is said again after the next welcome. */
  send(message: GatewayMessage): boolean {
    const socket = this.#socket;
    if (!this.#up || socket === null) return false;
    if (socket.writableLength > MAX_UNSENT_BYTES) {
      socket.destroy(new Error('the controller does not read its link'));
      return false;
    }
    // What is said in one turn goes out in one write: a sweep over a thousand functions says as much of each.
    if (socket.writableCorked === 0) {
      socket.cork();
      process.nextTick(uncork, socket);
    }
    socket.write(encodeLine(message));
    return true;
  }

  /** Sends what is still to be sent, and ends the link. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#cancelTimer();
    await endLines(this.#socket, this.#options.clock);
  }

  #connect(): void {
    const { clock, log, target, events, gateway, boot, pid } = this.#options;
    this.#socket = this.#dialer.dial({
      maxLineBytes: MAX_LINK_LINE_BYTES,
      onConnect: (socket) => {
        socket.write(encodeLine({ type: 'hello', gateway, boot, pid, term: this.#term, held: events.held() } satisfies GatewayMessage));
        this.#cancelTimer = clock.after(WELCOME_TIMEOUT_MS, () => socket.destroy(new Error('the controller did not say welcome')));
      },
      onLine: (line) => this.#receive(line),
      onClose: (reason) => {
        this.#cancelTimer();
        const wasUp = this.#up;
        this.#up = false;
        this.#socket = null;
        if (wasUp && !this.#closed) {
          log.warn({ reason: reason ?? 'closed by the controller' }, 'link to the controller lost');
          events.onDown();
        }
        if (this.#closed) return;
        this.#attempt++;
        // A controller that is not there yet is nothing new each time.
        if (!wasUp && this.#attempt === 10)
          log.warn({ reason: reason ?? 'closed by the controller', at: showEndpoint(target) }, 'no link to the controller yet');
        this.#cancelTimer = clock.after(backoffMs(this.#attempt, RECONNECT), () => this.#connect());
      },
    });
  }

  /** Throws where the link is not to be used on. */
  #receive(line: string): void {
    const message = ControllerMessage.parse(JSON.parse(line));
    if (message.term < this.#term) throw new Error(`term ${message.term} is over, ${this.#term} was seen`);
    this.#term = message.term;
    if (message.type === 'welcome') {
      this.#cancelTimer();
      this.#up = true;
      this.#attempt = 0;
      this.#options.log.info(
        { term: message.term, routes: message.routes.length, kept: message.keep.length },
        'link to the controller is up',
      );
      this.#options.events.onWelcome(message);
    } else if (this.#up) {
      this.#options.events.onMessage(message);
    } else {
      throw new Error(`${message.type} before welcome`);
    }
  }
}
