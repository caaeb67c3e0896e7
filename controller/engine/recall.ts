/** Asks the gateways what they remember of a request. */
import type { CallRecord } from '#contract/call.ts';
import type { Clock } from '#kit/clock.ts';
import type { Link } from './link-server.ts';

/** How long gateways may take to answer, ms: one that is busy is not waited for. */
const RECALL_TIMEOUT_MS = 500;

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

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** What was answered within the time; nothing where nobody is connected. */
  ask(links: readonly Link[], id: string): Promise<CallRecord[]> {
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
    const cancel = this.#clock.after(RECALL_TIMEOUT_MS, end);
    this.#questions.set(id, { waiting: new Set(links), calls, done: promise, end });
    for (const link of links) link.send({ type: 'recall', id });
    return promise;
  }

  /** Answers that nobody asked for are left alone. */
  answered(link: Link, id: string, calls: readonly CallRecord[]): void {
    const question = this.#questions.get(id);
    if (!question?.waiting.delete(link)) return;
    question.calls.push(...calls);
    if (question.waiting.size === 0) question.end();
  }
}
