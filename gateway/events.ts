/**
 * Streams of server-sent events (text/event-stream): the function's timeout counts until they begin, then
 * they have a life of their own. One that the gateway ends, ends like one that the function ended, between
 * two events and with the last chunk: an EventSource then connects again, and a lost connection looks
 * different.
 */
import { valueOf } from './flat-headers.ts';
import type { ResponseHead } from './headers.ts';
import type { Stream } from './streams.ts';

/** Until an event that is half through has passed, ms; then the stream ends within it. */
export const EVENT_END_MS = 1_000;

const EVENT_STREAM = /^text\/event-stream\s*(?:;|$)/i;
/** An event ends with an empty line, whichever the line ends are. */
const EVENT_END = /(?:\n\n|\r\r|\r\n\r\n|\n\r\n)$/;
const TAIL_BYTES = 4;

/** One with a length is a file that happens to hold events. */
export function isEventStream({ flat, contentLength }: ResponseHead): boolean {
  return contentLength < 0 && EVENT_STREAM.test(valueOf(flat, 'content-type') ?? '');
}

export interface EventStreamOwner {
  /** The stream is to end now. */
  onEventsEnd(): void;
  /** It is to end at the end of an event, and after so long in any case: then `overdue` is to be called. */
  onEventsEnding(withinMs: number): void;
}

export class EventStream implements Stream {
  readonly #owner: EventStreamOwner;
  #tail = '';
  #ending = false;

  constructor(owner: EventStreamOwner) {
    this.#owner = owner;
  }

  /** A chunk has passed. */
  follow(chunk: Buffer): void {
    const end = chunk.toString('latin1', Math.max(0, chunk.length - TAIL_BYTES));
    this.#tail = (this.#tail + end).slice(-TAIL_BYTES);
    if (this.#ending && this.#atEnd) this.#owner.onEventsEnd();
  }

  get #atEnd(): boolean {
    return this.#tail === '' || EVENT_END.test(this.#tail);
  }

  end(): void {
    if (this.#ending) return;
    this.#ending = true;
    if (this.#atEnd) this.#owner.onEventsEnd();
    else this.#owner.onEventsEnding(EVENT_END_MS);
  }

  /** Its time is over: its age, or that for its last event. */
  overdue(): void {
    if (this.#ending) this.#owner.onEventsEnd();
    else this.end();
  }
}
