/**
 * The body of a request on its way to an instance: streamed with back-pressure, its first bytes kept
 * so that a refused request can be sent again elsewhere, its length and its pace watched.
 */
import type { IncomingMessage } from 'node:http';
import { Readable } from 'node:stream';
import type { DeadlineWheel, WheelEntry, WheelSlot } from './wheel.ts';

/** Bytes kept for sending again after a refusal. */
export const REPLAY_BYTES = 64 * 1_024;

/**
 * Slowest body. In each window in which the gateway was always ready to take bytes at least so many
 * must come, or the body end, else 408; so a dribbled body is gone after 10 s. Not applied once the
 * response has begun: then the function has what it wanted, and its own timeout bounds the rest.
 */
export const BODY_PACE = { windowMs: 10_000, minBytes: 1_024 } as const;

/** What is still read of a body that nobody wants any more, so that the client can read the answer. */
export const DISCARD = { maxBytes: 1_024 * 1_024, maxMs: 2_000 } as const;

export interface BodyOwner {
  /** All is kept: only where `collect` was asked for. */
  onCollected(): void;
  /** Over the limit. Called once; nothing more is passed on. */
  onTooLarge(): void;
  /** Slower than BODY_PACE. */
  onTooSlow(): void;
  /** Is a response under way, so that the pace does not matter any more? */
  readonly answering: boolean;
}

export class RequestBody implements WheelEntry {
  wheel: WheelSlot | null = null;
  /** null: all of it came with the head of its request. */
  readonly #incoming: IncomingMessage | null;
  readonly #owner: BodyOwner;
  readonly #wheel: DeadlineWheel;
  readonly #maxBytes: number;
  readonly #keepBytes: number;
  #kept: Buffer[] | null = [];
  #received = 0;
  #complete = false;
  #stream: Attempt | null = null;
  #mode: 'held' | 'collect' | 'stream' | 'discard' = 'held';
  #windowStart = 0;
  #heldBack = false;
  #discardUntil = 0;

  /** Of `source` that is arriving, or whole. */
  constructor(
    source: IncomingMessage | Buffer,
    owner: BodyOwner,
    wheel: DeadlineWheel,
    limits: { maxBodyBytes: number; keepBytes: number },
  ) {
    if (Buffer.isBuffer(source)) {
      this.#incoming = null;
      this.#kept = [source];
      this.#received = source.length;
      this.#complete = true;
    } else {
      this.#incoming = source;
    }
    this.#owner = owner;
    this.#wheel = wheel;
    this.#maxBytes = limits.maxBodyBytes;
    this.#keepBytes = limits.keepBytes;
  }

  get complete(): boolean {
    return this.#complete;
  }

  /** Would the instance take more than the client sends? */
  get starving(): boolean {
    return !this.#complete && this.#mode === 'stream' && this.#incoming?.isPaused() === false;
  }

  /** Can everything that was sent be sent again? */
  get replayable(): boolean {
    return this.#kept !== null;
  }

  /** Reads it whole into memory; for bodies that fit what is kept, by their declared length or by the limit. */
  collect(now: number): void {
    this.#mode = 'collect';
    if (this.#complete) this.#owner.onCollected();
    else this.#listen(now);
  }

  /** What is to be sent: a buffer where all is here, otherwise a stream that begins with what was kept. */
  open(now: number): Buffer | Readable {
    if (this.#complete && this.#kept !== null) return this.#kept.length === 1 ? this.#kept[0]! : Buffer.concat(this.#kept);
    const stream = new Attempt(this);
    for (const chunk of this.#kept ?? []) stream.push(chunk);
    if (this.#complete) stream.push(null);
    const begun = this.#mode !== 'held';
    this.#stream = stream;
    this.#mode = 'stream';
    if (!begun && !this.#complete) this.#listen(now);
    return stream;
  }

  #listen(now: number): void {
    const incoming = this.#incoming!;
    incoming.on('data', this.#onData);
    incoming.on('end', this.#onEnd);
    // A broken request ends its response too, which is where that is noticed.
    incoming.on('error', ignore);
    this.#windowStart = this.#received;
    this.#wheel.set(this, now + BODY_PACE.windowMs);
  }

  readonly #onData = (chunk: Buffer): void => {
    this.#received += chunk.length;
    if (this.#mode === 'discard') {
      if (this.#received > this.#discardUntil) this.#incoming?.socket.destroy();
      return;
    }
    if (this.#received > this.#maxBytes) {
      this.#owner.onTooLarge();
      return;
    }
    if (this.#kept !== null) {
      if (this.#received <= this.#keepBytes) this.#kept.push(chunk);
      else this.#kept = null;
    }
    if (this.#stream !== null && !this.#stream.push(chunk)) this.holdBack();
  };

  readonly #onEnd = (): void => {
    this.#complete = true;
    this.#wheel.cancel(this);
    if (this.#mode === 'collect') this.#owner.onCollected();
    else this.#stream?.push(null);
  };

  /** Back-pressure: the instance does not take more now. */
  holdBack(): void {
    if (this.#mode !== 'stream') return;
    this.#heldBack = true;
    this.#incoming?.pause();
  }

  /** The instance takes more. */
  goOn(): void {
    if (!this.#complete && this.#mode === 'stream') this.#incoming?.resume();
  }

  /** The attempt was given up; another may be opened. */
  detach(stream: Readable): void {
    if (this.#stream !== stream) return;
    this.#stream = null;
    this.holdBack();
  }

  onDeadline(now: number): void {
    const incoming = this.#incoming;
    // Nobody waits for what is here.
    if (incoming === null) return;
    if (this.#mode === 'discard') {
      incoming.socket.destroy();
      return;
    }
    if (this.#owner.answering) return;
    const slow = this.#received - this.#windowStart < BODY_PACE.minBytes;
    if (slow && !this.#heldBack && !incoming.isPaused()) {
      this.#owner.onTooSlow();
      return;
    }
    this.#heldBack = incoming.isPaused();
    this.#windowStart = this.#received;
    this.#wheel.set(this, now + BODY_PACE.windowMs);
  }

  /**
   * Nobody wants the rest. It is read for a little while, for a client that reads the answer only
   * when it has sent everything; then the connection is cut.
   */
  discard(now: number): void {
    const begun = this.#mode !== 'held';
    this.#kept = null;
    this.#stream = null;
    this.#mode = 'discard';
    const incoming = this.#incoming;
    if (this.#complete || incoming === null || incoming.socket.destroyed) {
      this.#wheel.cancel(this);
      return;
    }
    if (!begun) this.#listen(now);
    this.#discardUntil = this.#received + DISCARD.maxBytes;
    this.#wheel.set(this, now + DISCARD.maxMs);
    incoming.resume();
  }

  /** Calls back when its end has come. */
  onceEnded(then: () => void): void {
    this.#incoming?.once('end', then);
  }

  /** The connection is gone. */
  abandon(): void {
    this.#wheel.cancel(this);
    this.#kept = null;
    this.#stream = null;
    this.#mode = 'discard';
  }
}

function ignore(): void {}

/** The body as one attempt reads it. Destroying it leaves the request itself alone. */
class Attempt extends Readable {
  readonly #body: RequestBody;

  constructor(body: RequestBody) {
    super({ highWaterMark: 64 * 1_024 });
    this.#body = body;
  }

  override _read(): void {
    this.#body.goOn();
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.#body.detach(this);
    callback(error);
  }
}
