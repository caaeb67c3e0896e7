/**
 * What is counted of requests for the accounts of functions, by revision. It goes to the controller in batches with the records of
 * calls; a batch is kept, and sent again after each welcome, until the controller says that it has it for good: nothing is
 * counted twice or lost, whichever of the two ends meanwhile, but for what a gateway that dies had not sent.
 */
import { durationClass, DURATION_CLASSES, MAX_COUNTS_PER_BATCH, type CallCounts, type CountsBatch } from '#contract/stats.ts';
import { type CallObserver, type EndedCall, isCold } from './journal.ts';

/** Revisions counted at a time; all that the routes have, mostly. Those beyond wait in no list: they are not counted. */
const MAX_REVISIONS = 20_000;

/** What was counted of a revision since the last batch. */
export class RevisionCounts {
  /** Whose they are; empty while they are nobody's. */
  revision = '';
  invocations = 0;
  errors = 0;
  rejected = 0;
  pooled = 0;
  full = 0;
  durationMs = 0;
  readonly durations = new Uint32Array(DURATION_CLASSES);

  /** What was counted; from now on it counts anew. */
  take(): CallCounts {
    const { revision, invocations, errors, rejected, pooled, full, durationMs } = this;
    const durations: [number, number][] = [];
    for (let index = 0; index < DURATION_CLASSES; index++) {
      const count = this.durations[index]!;
      if (count > 0) durations.push([index, count]);
    }
    this.revision = '';
    this.invocations = 0;
    this.errors = 0;
    this.rejected = 0;
    this.pooled = 0;
    this.full = 0;
    this.durationMs = 0;
    this.durations.fill(0);
    return { revision, invocations, errors, rejected, pooled, full, durationMs: Math.round(durationMs * 1_000) / 1_000, durations };
  }
}

export class CallTally implements CallObserver {
  readonly #byRevision = new Map<string, RevisionCounts>();
  /** Those that were taken, to be used again: made anew each second they grow old and cost a collection of the whole heap. */
  readonly #spare: RevisionCounts[] = [];
  #seq = 0;
  #batch: CountsBatch | null = null;
  #sent = false;
  /** Requests of revisions beyond the limit. */
  uncounted = 0;

  ended(call: EndedCall, now: number): void {
    const { revision, sentAt, start } = call;
    if (revision === null) return;
    const { desk } = call;
    let counts = desk?.counts ?? null;
    if (counts === null || counts.revision !== revision) {
      counts = this.#byRevision.get(revision) ?? this.#begin(revision);
      if (counts === null) return;
      if (desk !== null) desk.counts = counts;
    }
    if (isCold(start)) counts[start!.kind === 'full' ? 'full' : 'pooled']++;
    if (sentAt === null || call.instance === null) {
      counts.rejected++;
      return;
    }
    counts.invocations++;
    if (call.problem !== null || call.status >= 500 || call.aborted) counts.errors++;
    // Of a stream, how long it was open says nothing about how fast the function is.
    const ms = (call.stream === null ? now : (call.headAt ?? now)) - sentAt;
    counts.durationMs += ms;
    counts.durations[durationClass(ms)]!++;
  }

  #begin(revision: string): RevisionCounts | null {
    if (this.#byRevision.size >= MAX_REVISIONS) {
      this.uncounted++;
      return null;
    }
    const counts = this.#spare.pop() ?? new RevisionCounts();
    counts.revision = revision;
    this.#byRevision.set(revision, counts);
    return counts;
  }

  /** Whether there is something to be sent now. */
  get waits(): boolean {
    return this.#batch === null ? this.#byRevision.size > 0 : !this.#sent;
  }

  /** What is to be sent: a new batch, or the last one where nobody has acknowledged it and the link is another one since. Call sent() once it is. */
  next(): CountsBatch | null {
    if (this.#batch !== null) return this.#sent ? null : this.#batch;
    if (this.#byRevision.size === 0) return null;
    const counts: CallCounts[] = [];
    for (const [revision, one] of this.#byRevision) {
      if (counts.length === MAX_COUNTS_PER_BATCH) break;
      counts.push(one.take());
      this.#byRevision.delete(revision);
      if (this.#spare.length < MAX_COUNTS_PER_BATCH) this.#spare.push(one);
    }
    this.#batch = { seq: ++this.#seq, counts };
    return this.#batch;
  }

  sent(): void {
    this.#sent = this.#batch !== null;
  }

  acknowledged(seq: number): void {
    if (this.#batch?.seq !== seq) return;
    this.#batch = null;
    this.#sent = false;
  }

  /** A new link: what was sent on the one before may never have come. */
  linkUp(): void {
    this.#sent = false;
  }
}
