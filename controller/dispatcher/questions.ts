/** What the API and clients ask of events. */
import { FnError } from '#contract/errors.ts';
import type { DeadLetterSelection, InvocationView } from '#contract/events.ts';
import type { Clock } from '#kit/clock.ts';
import type { EventStore, StoredDeadLetter, StoredEvent } from '../store/events.ts';
import type { FunctionTable } from './functions.ts';
import { functionLane } from './lane.ts';
import type { EventQueue } from './queue.ts';
import { decodeResult, type Result } from './result.ts';
import type { EventQuestions, Triggers } from './types.ts';
import { deadLetterDetail, deadLetterView, invocationView } from './views.ts';

/** Listed where nobody says how many. */
const DEFAULT_LIMIT = 50;
/** Dead letters that are changed in one transaction. */
const CHUNK = 200;
/** How long a cancelled invocation can be read at least, ms: whoever cancelled it wants to see that. */
const CANCELLED_KEPT_MS = 60_000;

export interface QuestionsOptions {
  store: EventStore;
  queue: EventQueue;
  functions: FunctionTable;
  triggers: Pick<Triggers, 'status'>;
  clock: Clock;
}

export class Questions implements EventQuestions {
  readonly #options: QuestionsOptions;

  constructor(options: QuestionsOptions) {
    this.#options = options;
  }

  async listInvocations(...[namespace, name, query]: Parameters<EventQuestions['listInvocations']>) {
    const found = await this.#options.store.list(namespace, name, { state: query.state, limit: query.limit ?? DEFAULT_LIMIT });
    return { invocations: found.map(invocationView) };
  }

  async getInvocation(namespace: string, name: string, id: string): Promise<InvocationView> {
    return invocationView(await this.#require(namespace, name, id));
  }

  /** Of whomever it is. null: there is none, or it is no invocation of a function. */
  async find(id: string): Promise<StoredEvent | null> {
    const stored = await this.#options.store.get(id);
    // What is on its way to a destination is the platform's own affair.
    return stored === null || stored.event.lane.endsWith('>') ? null : stored;
  }

  async #require(namespace: string, name: string, id: string): Promise<StoredEvent> {
    const stored = await this.find(id);
    if (stored === null || stored.event.namespace !== namespace || stored.event.name !== name)
      throw new FnError('invocation-not-found', `The function ${name} has no invocation ${id}, or it is kept no longer.`);
    return stored;
  }

  /** Throws FnError not-found where it has none: it says why. */
  async result(stored: StoredEvent): Promise<Result> {
    const bytes = await this.#options.store.result(stored.event.id);
    if (bytes !== null) return decodeResult(bytes);
    const { id } = stored.event;
    if (stored.finishedAt === null)
      throw new FnError('not-found', `The invocation ${id} is ${stored.state}: it has no result yet.`, { retryAfterSeconds: 1 });
    const why = stored.error === null ? '' : ` (${stored.error.code}: ${stored.error.detail})`;
    throw new FnError('not-found', `The invocation ${id} is over (${stored.state}), and no answer of the function was kept${why}.`);
  }

  async getResult(namespace: string, name: string, id: string) {
    const { status, headers, body } = await this.result(await this.#require(namespace, name, id));
    return { status, headers, body: body.toString('base64') };
  }

  async cancelInvocation(namespace: string, name: string, id: string): Promise<InvocationView> {
    return this.cancel(await this.#require(namespace, name, id));
  }

  /** Throws FnError conflict where it is over. */
  async cancel(stored: StoredEvent): Promise<InvocationView> {
    const { event } = stored;
    if (stored.state === 'cancelled') return invocationView(stored);
    const { store, queue, functions, clock } = this.#options;
    const at = clock.wall();
    const { resultMs } = functions.policy(event.namespace, event.name, event.trigger);
    const state = await store.cancel(event.id, at, at + Math.max(resultMs, CANCELLED_KEPT_MS));
    if (state !== 'cancelled') {
      if (state === null) throw new FnError('invocation-not-found', `The invocation ${event.id} is kept no longer.`);
      throw new FnError('conflict', `The invocation ${event.id} is over: it has ${state}.`);
    }
    queue.cancelled(event);
    return this.getInvocation(event.namespace, event.name, event.id);
  }

  async listDeadLetters(...[namespace, name, query]: Parameters<EventQuestions['listDeadLetters']>) {
    const { store } = this.#options;
    const filter = { namespace, name, trigger: query.trigger };
    const [letters, total] = await Promise.all([
      store.listDead(filter, { before: query.before, limit: query.limit ?? DEFAULT_LIMIT }),
      store.countDead(filter),
    ]);
    return { deadLetters: letters.map(deadLetterView), total };
  }

  async getDeadLetter(namespace: string, name: string, id: string) {
    const letter = await this.#deadOf(namespace, name, id);
    if (letter === null) throw deadLetterNotFound(name, id);
    return deadLetterDetail(letter);
  }

  async #deadOf(namespace: string, name: string, id: string): Promise<StoredDeadLetter | null> {
    const letter = await this.#options.store.getDead(id);
    return letter !== null && letter.event.namespace === namespace && letter.event.name === name ? letter : null;
  }

  async redrive(namespace: string, name: string, selection: DeadLetterSelection) {
    const { store, functions, clock } = this.#options;
    return this.#change(namespace, name, selection, async (letters) => {
      let count = 0;
      const at = clock.wall();
      const triggers = new Set(letters.map(({ event }) => event.trigger));
      for (const trigger of triggers) {
        const ids = letters.filter(({ event }) => event.trigger === trigger).map(({ event }) => event.id);
        count += (await store.redrive(ids, at, at + functions.policy(namespace, name, trigger).maxAgeMs)).length;
      }
      return count;
    });
  }

  async purge(namespace: string, name: string, selection: DeadLetterSelection) {
    return this.#change(
      namespace,
      name,
      selection,
      async (letters) => (await this.#options.store.purge(letters.map(({ event }) => event.id))).length,
    );
  }

  /** Of those that are dead now; what dies meanwhile is left. Throws FnError dead-letter-not-found where none of the ids is there. */
  async #change(
    namespace: string,
    name: string,
    selection: DeadLetterSelection,
    change: (letters: StoredDeadLetter[]) => Promise<number>,
  ): Promise<{ count: number }> {
    let count = 0;
    const chunks = 'ids' in selection ? this.#selected(namespace, name, selection.ids) : this.#all(namespace, name, selection.trigger);
    for await (const letters of chunks) {
      const changed = await change(letters);
      count += changed;
      // Somebody else was quicker: what is listed now is not what is there.
      if (changed === 0) break;
    }
    this.#options.queue.changed();
    return { count };
  }

  async *#selected(namespace: string, name: string, ids: readonly string[]): AsyncGenerator<StoredDeadLetter[]> {
    let found = 0;
    for (let from = 0; from < ids.length; from += CHUNK) {
      const letters = await Promise.all(ids.slice(from, from + CHUNK).map((id) => this.#deadOf(namespace, name, id)));
      const there = letters.filter((letter) => letter !== null);
      found += there.length;
      if (there.length > 0) yield there;
    }
    if (found === 0) throw deadLetterNotFound(name, ids.length === 1 ? ids[0]! : `of these ${ids.length}`);
  }

  /** What is yielded must be gone from the list before the next is asked for. */
  async *#all(namespace: string, name: string, trigger: string | undefined): AsyncGenerator<StoredDeadLetter[]> {
    const { store, clock } = this.#options;
    const until = clock.wall();
    let before: string | undefined;
    for (;;) {
      const page = await store.listDead({ namespace, name, trigger }, { before, limit: CHUNK });
      if (page.length === 0) return;
      const letters = page.filter(({ deadAt }) => deadAt <= until);
      // Those that have died since stay in the list: the next page is behind the last of them.
      before = page.findLast(({ deadAt }) => deadAt > until)?.event.id ?? before;
      if (letters.length > 0) yield letters;
    }
  }

  triggerStatus(namespace: string, name: string) {
    return this.#options.triggers.status(namespace, name);
  }

  async backlog(namespace: string, name: string) {
    const { store, clock } = this.#options;
    const lanes = (await store.lanes(clock.wall())).filter((lane) => lane.namespace === namespace && lane.name === name);
    const sum = (count: (lane: (typeof lanes)[number]) => number) => lanes.reduce((total, lane) => total + count(lane), 0);
    const oldest = lanes.find(({ lane }) => lane === functionLane(namespace, name))?.oldestAt ?? null;
    return { waiting: sum((lane) => lane.waiting), running: sum((lane) => lane.claimed), dead: sum((lane) => lane.dead), oldestAt: oldest };
  }
}

const deadLetterNotFound = (name: string, id: string) =>
  new FnError('dead-letter-not-found', `The function ${name} has no dead letter ${id}.`);
