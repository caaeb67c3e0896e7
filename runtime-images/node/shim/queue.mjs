/** `queue(batch, env, ctx)` as Workers has it: messages that are acknowledged one by one, together, or by returning. */
import { MAX_RETRY_DELAY_SECONDS } from './limits.mjs';
import { timeOf } from './cloudevents.mjs';

/** @typedef {import('./cloudevents.mjs').CloudEvent} CloudEvent */
/** @typedef {{ itemIdentifier: string, delaySeconds?: number }} Failure as BatchAnswer of the contract has it */
/** @typedef {{ retry: boolean, delaySeconds?: number }} Verdict */

/** What was said of the messages of one batch. The first word about a message holds, and so does the first about all. */
class Verdicts {
  /** @type {Verdict | null} */
  ofAll = null;
  /** @type {Map<Message, Verdict>} */
  ofOne = new Map();

  /** @param {Message} message */
  ack(message) {
    if (this.ofAll === null && !this.ofOne.has(message)) this.ofOne.set(message, { retry: false });
  }

  /** @param {Message} message @param {unknown} options */
  retry(message, options) {
    const verdict = { retry: true, ...delayOf(options) };
    // Of a message that is to be retried, the last delay holds.
    if (this.ofAll?.retry !== false && this.ofOne.get(message)?.retry !== false) this.ofOne.set(message, verdict);
  }

  /**
   * What failed, where the handler has returned, or thrown. null: it threw, and had said nothing before.
   * @param {Message[]} messages
   * @param {boolean} threw
   * @returns {Failure[] | null}
   */
  failures(messages, threw) {
    if (threw && this.ofAll === null && this.ofOne.size === 0) return null;
    const otherwise = this.ofAll ?? { retry: threw };
    return messages.flatMap((message) => {
      const { retry, ...delay } = this.ofOne.get(message) ?? otherwise;
      return retry ? [{ itemIdentifier: message.id, ...delay }] : [];
    });
  }
}

/** @param {unknown} options of retry: { delaySeconds } */
function delayOf(options) {
  const seconds = /** @type {{ delaySeconds?: unknown } | undefined} */ (options)?.delaySeconds;
  if (seconds === undefined) return {};
  if (typeof seconds !== 'number' || !(seconds >= 0 && seconds <= MAX_RETRY_DELAY_SECONDS))
    throw new RangeError(`retry: delaySeconds is ${String(seconds)}; it must be a number from 0 to ${MAX_RETRY_DELAY_SECONDS}`);
  return { delaySeconds: seconds };
}

class Message {
  #verdicts;

  /** @param {CloudEvent} event @param {Verdicts} verdicts */
  constructor(event, verdicts) {
    this.#verdicts = verdicts;
    this.id = event.id;
    this.timestamp = new Date(timeOf(event));
    this.body = event.data;
    this.attempts = event.attempt ?? 1;
    this.event = event;
  }

  ack() {
    this.#verdicts.ack(this);
  }

  /** @param {{ delaySeconds?: number }} [options] */
  retry(options) {
    this.#verdicts.retry(this, options);
  }
}

export class MessageBatch {
  #verdicts = new Verdicts();

  /** @param {CloudEvent[]} events not empty */
  constructor(events) {
    const [first] = events;
    /** Name of the trigger that brought them. */
    this.queue = String(first?.trigger ?? first?.source ?? '');
    this.messages = events.map((event) => new Message(event, this.#verdicts));
  }

  ackAll() {
    this.#verdicts.ofAll ??= { retry: false };
  }

  /** @param {{ delaySeconds?: number }} [options] */
  retryAll(options) {
    const delay = delayOf(options);
    this.#verdicts.ofAll ??= { retry: true, ...delay };
  }

  /** @param {MessageBatch} batch @param {boolean} threw */
  static failures(batch, threw) {
    return batch.#verdicts.failures(batch.messages, threw);
  }
}
