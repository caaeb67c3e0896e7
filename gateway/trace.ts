/**
 * W3C trace context: a valid parent is continued, otherwise a trace begins here. Of each request there are
 * two spans: the gateway's, which is its life here, and below it one for each try on an instance, whose
 * id the function gets as its parent.
 */
import { randomFillSync } from 'node:crypto';

/** Version, trace id, parent id, flags. A later version may carry more; its first four fields mean the same. */
const TRACEPARENT = /^(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-|$)/;

const POOL_BYTES = 4_096;
const TRACE_BYTES = 16;
const SPAN_BYTES = 8;

/** The trace of one request. */
export interface RequestTrace {
  readonly traceId: string;
  /** Span of the client that caused it; null where the trace begins here. */
  readonly parent: string | null;
  /** Two hex digits, as they came or as this gateway decided. */
  readonly flags: string;
  /** The gateway's own span; made when it is asked for first. */
  span: string | null;
  /** A span's id that came with the trace's; null once it is used. */
  spare: string | null;
}

export interface Tracer {
  /** By the traceparent that came, if a valid one did: its tracestate is good then. */
  begin(incoming: string | undefined): RequestTrace;
  /** A new traceparent below the trace, for the function. */
  next(trace: RequestTrace): string;
  /** The traceparent of the gateway's own span: what is done for the request elsewhere belongs below it. */
  own(trace: RequestTrace): string;
}

/** Whether a trace that begins here is recorded, by its id. */
export type Sampler = (traceId: string) => boolean;

/** Every trace that begins here: whether to record is left to the function, whose tracer would obey a "no" from here. */
const ALWAYS: Sampler = () => true;

/** One call to the random generator serves some 170 requests. */
export function createTracer(sampler: Sampler = ALWAYS): Tracer {
  const pool = Buffer.allocUnsafe(POOL_BYTES);
  let used = POOL_BYTES;
  const random = (bytes: number): string => {
    if (used + bytes > POOL_BYTES) {
      randomFillSync(pool);
      used = 0;
    }
    used += bytes;
    return pool.toString('hex', used - bytes, used);
  };
  return {
    begin(incoming) {
      const match = incoming === undefined ? null : TRACEPARENT.exec(incoming);
      if (match !== null) return { traceId: match[1]!, parent: match[2]!, flags: match[3]!, span: null, spare: null };
      // Most requests begin a trace and are sent once: both ids at one go.
      const ids = random(TRACE_BYTES + SPAN_BYTES);
      const traceId = ids.slice(0, TRACE_BYTES * 2);
      return { traceId, parent: null, flags: sampler(traceId) ? '01' : '00', span: null, spare: ids.slice(TRACE_BYTES * 2) };
    },
    next(trace) {
      const span = trace.spare ?? random(SPAN_BYTES);
      trace.spare = null;
      return `00-${trace.traceId}-${span}-${trace.flags}`;
    },
    own(trace) {
      trace.span ??= random(SPAN_BYTES);
      return `00-${trace.traceId}-${trace.span}-${trace.flags}`;
    },
  };
}

/** Of a traceparent that was made here. */
export const traceIdOf = (traceparent: string): string => traceparent.slice(3, 35);
export const spanIdOf = (traceparent: string): string => traceparent.slice(36, 52);
export const isSampled = (flags: string): boolean => (Number.parseInt(flags, 16) & 1) === 1;
