/**
 * An open WebSocket: two sockets and what passes between them, byte for byte, with back-pressure. It ends
 * when either side ends it; where the gateway has to end it, both sides are told by a close frame.
 *
 * The gateway's own end: its close frame goes to the client between two frames of the function's. What the
 * client still sends reaches the function, the answer to the close frame last: so the function sees the
 * code too, and nothing is lost that was on its way to it. A client that does not answer is spoken for.
 */
import type { Duplex } from 'node:stream';
import type { Clock } from '#kit/clock.ts';
import type { Stream, StreamEnd } from './streams.ts';
import { closeFrame, FrameTracker } from './websocket-frames.ts';
import type { DeadlineWheel, WheelEntry, WheelSlot } from './wheel.ts';

/** Until the client has answered our close frame, ms; then the function is told in its place. */
export const CLOSE_ANSWER_MS = 1_000;
/** Until both have closed their end when the WebSocket is over, ms; then they are cut. */
export const CLOSE_LINGER_MS = 500;
/** Until the function has closed its end when the client has, ms. It may have much to do at such a moment. */
export const CLIENT_GONE_MS = 5_000;

const REASONS: Record<StreamEnd, string> = { 'going-away': 'going away', 'maximum-age': 'maximum age' };
const GOING_AWAY = 1001;
const INTERNAL_ERROR = 1011;

export interface WebSocketOptions {
  client: Duplex;
  /** The connection to the instance. */
  upstream: Duplex;
  /** What the client sent before it had the answer. */
  early: readonly Buffer[];
  clock: Clock;
  wheel: DeadlineWheel;
  /** Longest life, ms. */
  maxAgeMs: number;
  /** Called once, when the instance has nothing to do with it any more. */
  onEnd: () => void;
}

/** One of the two ways. */
interface Way {
  readonly from: Duplex;
  readonly to: Duplex;
  readonly tracker: FrameTracker;
  readonly masked: boolean;
  /** A close frame of ours that goes out at the next boundary. */
  due: Buffer | null;
  /** Nothing passes any more: our close frame has gone out. */
  shut: boolean;
}

export class WebSocketTunnel implements Stream, WheelEntry {
  wheel: WheelSlot | null = null;
  readonly #options: WebSocketOptions;
  readonly #down: Way;
  readonly #up: Way;
  #state: 'open' | 'closing' | 'over' = 'open';
  #why: StreamEnd = 'maximum-age';
  #told = false;

  constructor(options: WebSocketOptions) {
    const { client, upstream } = options;
    this.#options = options;
    this.#down = { from: upstream, to: client, tracker: new FrameTracker(), masked: false, due: null, shut: false };
    this.#up = { from: client, to: upstream, tracker: new FrameTracker(), masked: true, due: null, shut: false };
  }

  /** Called once. */
  begin(): void {
    const { client, upstream, early, clock, wheel, maxAgeMs } = this.#options;
    this.#listen(client, this.#up, () => this.#clientEnded());
    this.#listen(upstream, this.#down, () => this.#functionEnded());
    client.once('close', () => this.#clientClosed());
    upstream.once('close', () => this.#functionClosed());
    wheel.set(this, clock.now() + maxAgeMs);
    for (const chunk of early) this.#pass(this.#up, chunk);
    if (client.destroyed) this.#clientClosed();
    if (upstream.destroyed) this.#functionClosed();
  }

  #listen(socket: Duplex, way: Way, onEnd: () => void): void {
    socket.on('data', (chunk: Buffer) => this.#pass(way, chunk));
    socket.on('end', onEnd);
    // A broken connection is told by its close.
    socket.on('error', ignore);
    way.to.on('drain', () => socket.resume());
    socket.resume();
  }

  /** Ends it from here: WebSocket's way, within CLOSE_ANSWER_MS and twice CLOSE_LINGER_MS. */
  end(why: StreamEnd): void {
    if (this.#state !== 'open') return;
    this.#state = 'closing';
    this.#why = why;
    this.#say(this.#down, GOING_AWAY);
    this.#within(CLOSE_ANSWER_MS);
  }

  #within(ms: number): void {
    this.#options.wheel.set(this, this.#options.clock.now() + ms);
  }

  /** The close frame goes out now, or when the frame that is under way has passed. */
  #say(way: Way, code: number, reason = REASONS[this.#why]): void {
    if (way.tracker.closed || way.shut || way.due !== null) return;
    way.due = closeFrame(code, reason, way.masked);
    if (way.tracker.atBoundary) this.#shut(way);
  }

  #shut(way: Way): void {
    way.shut = true;
    if (way.due !== null && !way.to.writableEnded) way.to.write(way.due);
    way.due = null;
    // What still comes is only followed.
    way.from.resume();
  }

  #pass(way: Way, chunk: Buffer): void {
    const { tracker, from, to } = way;
    if (way.shut) {
      tracker.follow(chunk);
    } else {
      const length = tracker.follow(chunk, way.due !== null);
      if (!to.writableEnded && !to.write(length === chunk.length ? chunk : chunk.subarray(0, length))) from.pause();
      if (way.due !== null && tracker.atBoundary) this.#shut(way);
      if (length < chunk.length) tracker.follow(chunk.subarray(length));
    }
    if (this.#state === 'closing' && this.#up.tracker.closed) this.#finish();
  }

  /** Both have said what there is to say: the ends of the connections follow. */
  #finish(lingerMs = CLOSE_LINGER_MS): void {
    const { client, upstream } = this.#options;
    client.end();
    upstream.end();
    this.#over(lingerMs);
  }

  #over(lingerMs: number): void {
    if (this.#state === 'over') return;
    this.#state = 'over';
    this.#within(lingerMs);
  }

  /** What the function still has to say goes on to the client, which may only have closed its half. */
  #clientEnded(): void {
    this.#options.upstream.end();
    this.#over(CLIENT_GONE_MS);
  }

  #functionEnded(): void {
    const { tracker } = this.#down;
    if (this.#state === 'open' && !tracker.closed) {
      if (!tracker.atBoundary) {
        // Half a frame: nothing that could be said after it would be understood.
        this.#options.client.destroy();
        return;
      }
      // It ended without the words for it: the client gets them.
      this.#say(this.#down, INTERNAL_ERROR, 'the function went away');
    }
    this.#finish();
  }

  #clientClosed(): void {
    // It ended well, with all that it said handed on; or it broke, and the function has to hear of that at once.
    const { upstream } = this.#options;
    if (!upstream.writableEnded) upstream.destroy();
    this.#settle();
  }

  #functionClosed(): void {
    this.#functionEnded();
    this.#tellEnd();
    this.#settle();
  }

  #settle(): void {
    const { client, upstream, wheel } = this.#options;
    if (client.destroyed && upstream.destroyed) wheel.cancel(this);
  }

  /** The slot is free when the instance is done with it; the client may take longer. */
  #tellEnd(): void {
    if (this.#told) return;
    this.#told = true;
    this.#options.onEnd();
  }

  onDeadline(): void {
    const { client, upstream } = this.#options;
    if (this.#state === 'open') {
      this.end('maximum-age');
    } else if (this.#state === 'closing') {
      this.#say(this.#up, GOING_AWAY);
      this.#finish();
    } else {
      client.destroy();
      upstream.destroy();
    }
  }
}

function ignore(): void {}
