/** Asks the gateways what they remember of a request, and to tell what they have not told yet. */
import type { CallRecord } from '#contract/call.ts';
import { FLUSH_ONLY } from '#contract/link.ts';
import type { Clock } from '#kit/clock.ts';
import type { Link } from './link-server.ts';

/** How long gateways may take to answer, ms: one that is busy is not waited for. */
const RECALL_TIMEOUT_MS = 500;
/** How long they may take to tell what waits to be told, ms: the list is shown without it then. */
const FLUSH_TIMEOUT_MS = 250;

interface Question {
  readonly waiting: Set<Link>;
  readonly calls: CallRecord[];
  /** Who asks: the same id is asked for once at a time. */
  readonly done: Promise<CallRecord[]>;
  end(): void;
}

export class Recalls {
  readonly #clock: Clock;
  readonly #questions = new Map<string, Question>();
  #nextFlush: Promise<void> | null = null;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** What was answered within the time; nothing where nobody is connected. */
  ask(links: readonly Link[], id: string, timeoutMs = RECALL_TIMEOUT_MS): Promise<CallRecord[]> {
    const asked = this.#questions.get(id);
    if (asked) return asked.done;
    if (links.length === 0) return Promise.resolve([]);
    const { promise, resolve } = Promise.withResolvers<CallRecord[]>();
    const calls: CallRecord[] = [];
    const end = () => {
      cancel();
      this.#questions.delete(id);
      resolve(calls);
    };
    const cancel = this.#clock.after(timeoutMs, end);
    this.#questions.set(id, { waiting: new Set(links), calls, done: promise, end });
    for (const link of links) link.send({ type: 'recall', id });
    return promise;
  }

  /** Once it is over, the records of all requests that were over before have come, of gateways that answer in time. */
  async flush(links: () => readonly Link[]): Promise<void> {
    const underWay = this.#questions.get(FLUSH_ONLY);
    if (underWay === undefined) {
      await this.ask(links(), FLUSH_ONLY, FLUSH_TIMEOUT_MS);
      return;
    }
    // That one may have been answered before the last of the requests was over: all who come now share the next.
    this.#nextFlush ??= underWay.done.then(() => {
      this.#nextFlush = null;
      return this.flush(links);
    });
    await this.#nextFlush;
  }

  /** Answers that nobody asked for are left alone. */
  answered(link: Link, id: string, calls: readonly CallRecord[]): void {
    const question = this.#questions.get(id);
    if (!question?.waiting.delete(link)) return;
    question.calls.push(...calls);
    if (question.waiting.size === 0) question.end();
  }
}
