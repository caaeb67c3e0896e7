/**
 * The newest requests, in places that are filled anew: no object is made for a request that nobody asks
 * about, and none lives on. What is different in each (its id, its trace, its path) is copied as bytes:
 * ten thousand requests with strings of their own are garbage that has grown old, which cost a tenth of a
 * warm request.
 */
import type { CallRecord, StartInfo } from '#contract/call.ts';
import { FairRings } from './fair-rings.ts';
import type { EndedCall } from './journal.ts';

/** Longest path that is remembered, characters. */
const MAX_PATH = 512;
const MAX_DETAIL = 1_000;
const MAX_WHY = 100;
const MAX_TRIES = 10;
/** Characters of a trace's id. */
const TRACE_LENGTH = 32;
/** For an id and a path together, bytes; longer ones are kept as they are. */
const TEXT_BYTES = 96;
const SLOT_BYTES = TRACE_LENGTH + TEXT_BYTES;
/** Times of a call, each at its place: as fields of an object each would be a piece of memory of its own. */
const T = 0;
const BODY = 1;
const QUEUE = 2;
const HANDLER = 3;
const STREAM = 4;
const TOTAL = 5;
const SLOT_TIMES = 6;

/** A place in the ring. */
export class CallSlot {
  /** Which one it is: its bytes (trace, id, path) and its times begin at so many of them. */
  readonly n: number;
  traced = false;
  idLength = 0;
  pathLength = 0;
  /** Id and path where they are too long for their bytes. */
  long: { id: string; path: string } | null = null;
  namespace = '';
  name = '';
  revision: string | null = null;
  instance: string | null = null;
  method = '';
  status = 0;
  problem: EndedCall['problem'] = null;
  start: StartInfo | null = null;
  tries: EndedCall['tries'] = null;
  aborted = false;
  stream: EndedCall['stream'] = null;
  event: EndedCall['event'] = null;

  constructor(n: number) {
    this.n = n;
  }
}

export class CallRing {
  readonly #gateway: string;
  /** By namespace: no tenant can push out what another's requests left. */
  readonly #slots: FairRings<CallSlot>;
  /** The system gives memory for it as it is written to. */
  readonly #bytes: Buffer;
  /** ms; −1: did not come to it. */
  readonly #times: Float64Array;

  constructor(gateway: string, size: number) {
    this.#gateway = gateway;
    this.#slots = new FairRings(size, (n) => new CallSlot(n));
    this.#bytes = Buffer.alloc(size * SLOT_BYTES);
    this.#times = new Float64Array(size * SLOT_TIMES);
  }

  /** Takes the place of the oldest of its namespace, or of the namespace that has most. `wall` is the time of `now` (monotonic), ms since 1970. */
  fill(call: EndedCall, now: number, wall: number): CallSlot {
    const slot = this.#slots.place(call.namespace, now);
    this.#write(slot, call);
    const { arrivedAt, askedAt, sentAt, headAt } = call;
    slot.namespace = call.namespace;
    slot.name = call.name;
    slot.revision = call.revision;
    slot.instance = call.instance;
    slot.method = call.method;
    slot.status = call.status;
    slot.problem = call.problem;
    slot.start = call.start;
    const times = this.#times;
    const at = slot.n * SLOT_TIMES;
    times[at + T] = wall - (now - arrivedAt);
    times[at + BODY] = (askedAt ?? now) - arrivedAt;
    times[at + QUEUE] = askedAt === null ? -1 : (sentAt ?? now) - askedAt;
    times[at + HANDLER] = sentAt === null ? -1 : (headAt ?? now) - sentAt;
    times[at + STREAM] = headAt === null ? -1 : now - headAt;
    times[at + TOTAL] = now - arrivedAt;
    slot.tries = call.tries;
    slot.aborted = call.aborted;
    slot.stream = call.stream;
    slot.event = call.event;
    return slot;
  }

  /** Ids and paths are ASCII: what else is in a request line is refused. */
  #write(slot: CallSlot, call: EndedCall): void {
    const { id, path, traceparent } = call;
    const query = path.indexOf('?');
    const pathLength = Math.min(query < 0 ? path.length : query, MAX_PATH);
    const bytes = this.#bytes;
    const from = slot.n * SLOT_BYTES;
    slot.traced = traceparent !== null;
    if (slot.traced) bytes.write(call.trace.traceId, from, TRACE_LENGTH, 'latin1');
    slot.idLength = id.length;
    slot.pathLength = pathLength;
    if (id.length + pathLength > TEXT_BYTES) {
      // A part of a text keeps the whole of it in memory, so it is a copy.
      slot.long = { id, path: Buffer.from(path.slice(0, pathLength), 'latin1').toString('latin1') };
      return;
    }
    slot.long = null;
    const at = from + TRACE_LENGTH;
    bytes.write(id, at, id.length, 'latin1');
    bytes.write(path, at + id.length, pathLength, 'latin1');
  }

  /** How long it took, ms; of a stream only how long it took to begin says that it is slow. */
  slowness({ n, stream }: CallSlot): number {
    const at = n * SLOT_TIMES;
    return this.#times[at + TOTAL]! - (stream === null ? 0 : Math.max(0, this.#times[at + STREAM]!));
  }

  #text(from: number, length: number): string {
    return this.#bytes.toString('latin1', from, from + length);
  }

  /** At most so many with this id, or of the trace with this id; the newest first. */
  find(id: string, most: number): CallRecord[] {
    const wanted = Buffer.from(id, 'latin1');
    const found = this.#slots.find((slot) => this.#isOf(slot, id, wanted), most);
    const at = ({ n }: CallSlot) => this.#times[n * SLOT_TIMES + T]!;
    return found.toSorted((a, b) => at(b) - at(a)).map((slot) => this.record(slot));
  }

  #isOf(slot: CallSlot, id: string, wanted: Buffer): boolean {
    if (slot.traced && wanted.length === TRACE_LENGTH && this.#holds(slot.n * SLOT_BYTES, wanted)) return true;
    if (slot.idLength !== wanted.length) return false;
    return slot.long === null ? this.#holds(slot.n * SLOT_BYTES + TRACE_LENGTH, wanted) : slot.long.id === id;
  }

  /** Ids of one process begin alike, so the last byte is looked at first. */
  #holds(at: number, wanted: Buffer): boolean {
    const end = at + wanted.length;
    return this.#bytes[end - 1] === wanted.at(-1) && this.#bytes.compare(wanted, 0, wanted.length, at, end) === 0;
  }

  /** What is told of it. */
  record(slot: CallSlot): CallRecord {
    const { problem, start, tries, n } = slot;
    const at = n * SLOT_BYTES;
    const id = at + TRACE_LENGTH;
    const [t = 0, bodyMs = 0, queueMs = -1, handlerMs = -1, streamMs = -1, totalMs = 0] = this.#times.subarray(
      n * SLOT_TIMES,
      (n + 1) * SLOT_TIMES,
    );
    return {
      id: slot.long?.id ?? this.#text(id, slot.idLength),
      t: Math.round(t),
      gateway: this.#gateway,
      namespace: slot.namespace,
      name: slot.name,
      method: slot.method,
      path: slot.long?.path ?? this.#text(id + slot.idLength, slot.pathLength),
      status: slot.status,
      totalMs: tenth(totalMs),
      ...(slot.revision === null ? {} : { revision: slot.revision }),
      ...(slot.instance === null ? {} : { instance: slot.instance }),
      ...(problem === null ? {} : { code: problem.code, detail: problem.detail.slice(0, MAX_DETAIL) }),
      ...(slot.traced ? { traceId: this.#text(at, TRACE_LENGTH) } : {}),
      ...(start === null ? {} : { start }),
      ...(bodyMs > 0 ? { bodyMs: tenth(bodyMs) } : {}),
      ...(queueMs < 0 ? {} : { queueMs: tenth(queueMs) }),
      ...(handlerMs < 0 ? {} : { handlerMs: tenth(handlerMs) }),
      ...(streamMs < 0 ? {} : { streamMs: tenth(streamMs) }),
      ...(tries === null ? {} : { tries: tries.slice(-MAX_TRIES).map(({ instance, why }) => ({ instance, why: why.slice(0, MAX_WHY) })) }),
      ...(slot.aborted ? { aborted: true } : {}),
      ...(slot.event === null ? {} : { event: slot.event }),
      ...(slot.stream === null ? {} : { stream: slot.stream }),
    };
  }
}

const tenth = (ms: number): number => Math.round(Math.max(0, ms) * 100) / 100;
