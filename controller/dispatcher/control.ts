/** What the controller says to its dispatcher, and what that says back: over the channel between the two processes. */
import type { Clock } from '#kit/clock.ts';
import type { Log } from '#kit/log.ts';
import type { Dispatcher } from './dispatcher.ts';
import { refusalOf } from './front.ts';
import { BEAT_MS, type ControllerToDispatcher, type DispatcherToController, type EventQuestions } from './types.ts';

/** How often counters are told, ms, where they have changed. */
const STATS_EVERY_MS = 1_000;
/** Idleness is told of after so long, ms, and again as often. */
const IDLE_AFTER_MS = 60_000;

type Ask = Extract<ControllerToDispatcher, { type: 'ask' }>;

export interface ControlOptions {
  dispatcher: Dispatcher;
  send: (message: DispatcherToController) => void;
  /** It was told to end, and has. */
  onDrained: () => void;
  clock: Clock;
  log: Log;
}

export class Control {
  readonly #options: ControlOptions;
  #told = '';
  #idleToldAt = 0;
  #cancels: (() => void)[] = [];

  constructor(options: ControlOptions) {
    this.#options = options;
    this.#every(0, BEAT_MS, () => options.send({ type: 'beat' }));
    this.#every(1, STATS_EVERY_MS, () => this.#tell());
  }

  #every(slot: number, ms: number, run: () => void): void {
    this.#cancels[slot] = this.#options.clock.after(ms, () => {
      run();
      this.#every(slot, ms, run);
    });
  }

  receive(message: ControllerToDispatcher): void {
    const { dispatcher, send, onDrained } = this.#options;
    switch (message.type) {
      case 'config':
        void dispatcher.start(message).then(
          () => send({ type: 'ready' }),
          (error: unknown) => this.#fail(error),
        );
        break;
      case 'change':
        dispatcher.change(message);
        break;
      case 'ask':
        void this.#answer(message);
        break;
      case 'drain':
        void dispatcher.close(message.graceMs).then(onDrained, (error: unknown) => this.#fail(error));
        break;
    }
  }

  /** Nobody waits for a dispatcher that cannot start or end: it dies, and the next one begins anew. */
  #fail(error: unknown): never {
    this.#options.log.error({ error: error instanceof Error ? error.stack : String(error) }, 'the dispatcher cannot go on');
    throw error instanceof Error ? error : new Error(String(error));
  }

  async #answer({ seq, question, args }: Ask): Promise<void> {
    const { dispatcher, send, log } = this.#options;
    try {
      send({ type: 'answer', seq, value: await ask(dispatcher.questions, question, args) });
    } catch (error) {
      send({ type: 'problem', seq, ...refusalOf(error, log) });
    }
  }

  #tell(): void {
    const { dispatcher, send, clock } = this.#options;
    const functions = dispatcher.stats();
    const text = JSON.stringify(functions);
    if (text !== this.#told) {
      this.#told = text;
      send({ type: 'stats', functions });
    }
    const since = dispatcher.idleSince;
    if (since === null || clock.wall() - since < IDLE_AFTER_MS || clock.wall() - this.#idleToldAt < IDLE_AFTER_MS) return;
    this.#idleToldAt = clock.wall();
    send({ type: 'idle', since });
  }

  close(): void {
    for (const cancel of this.#cancels) cancel();
  }
}

/** The arguments are those of the question: the type of a message says so, but not to a call by name. */
function ask<Name extends keyof EventQuestions>(questions: EventQuestions, question: Name, args: Ask['args']): Promise<unknown> {
  const method = questions[question].bind(questions) as (...given: Ask['args']) => Promise<unknown>;
  return method(...args);
}
