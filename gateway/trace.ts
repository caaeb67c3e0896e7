/** W3C trace context: a valid parent is continued with a span of our own, otherwise a trace begins here. */
import { randomFillSync } from 'node:crypto';

/** Version, trace id, parent id, flags. A later version may carry more; its first four fields mean the same. */
const TRACEPARENT = /^(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})(?:-|$)/;

const POOL_BYTES = 4_096;
const TRACE_BYTES = 16;
const SPAN_BYTES = 8;

export interface Tracer {
  /** The traceparent to send on, and whether the one that came was continued (its tracestate is good then). */
  next(incoming: string | undefined): { traceparent: string; continued: boolean };
}

/** One call to the random generator serves some 170 requests. */
export function createTracer(): Tracer {
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
    next(incoming) {
      const match = incoming === undefined ? null : TRACEPARENT.exec(incoming);
      if (match !== null) return { traceparent: `00-${match[1]}-${random(SPAN_BYTES)}-${match[2]}`, continued: true };
      const ids = random(TRACE_BYTES + SPAN_BYTES);
      // Sampled: whether to record is left to the function, whose tracer would obey a "no" from here.
      return { traceparent: `00-${ids.slice(0, TRACE_BYTES * 2)}-${ids.slice(TRACE_BYTES * 2)}-01`, continued: false };
    },
  };
}
