/**
 * Messages of a Redis list. What is taken moves, in one step, to a place of the consumer's own, and stays there until it is acknowledged;
 * the consumer shows that it is alive while it has something. What a dead one had goes back to the end that it came from.
 * The values in the list stay as they are: others may push to it and pop from it as ever.
 */
import type { TriggerOf } from '#contract/trigger.ts';
import { toSourceMessage } from '../broker-message.ts';
import { RedisConnection, type Script, asBuffer, asList, asNumber, asText } from '../redis-connection.ts';
import type { OpenSource, Source, SourceMessage, SourceOptions } from '../types.ts';
import { ACK, BEAT, EXPIRED, LEAVE, RECOVER, RELEASE, RESCUE, TAKE, keysOf } from './scripts.ts';

/** After so long without a sign of life a consumer is dead. */
const ALIVE_MS = 30_000;
/** Waits no longer in one go: between two of them dead consumers are looked for. */
const BLOCK_MS = 1_000;
/**
 * So long after a TAKE without an answer it may still be carried out: a server that stood still reads what was sent to it
 * before it notices that nobody waits any more.
 */
const UNSURE_MS = 60_000;
/** Values of one command, at most. */
const MAX_TAKE = 1_000;
const MAX_IDS = 500;

type Options = SourceOptions<TriggerOf<'redis-list'>>;

export interface ListTimes {
  /** ms */
  aliveMs?: number;
}

class RedisListSource implements Source {
  readonly touchEveryMs: number;
  readonly #aliveMs: number;
  readonly #options: Options;
  readonly #consumer: string;
  readonly #keys: string[];
  /** Waits until there is something; nothing else goes over it. */
  readonly #waiter: RedisConnection;
  readonly #commands: RedisConnection;
  readonly #ids = new WeakMap<SourceMessage, string>();
  /** Ids of what was received and is neither acknowledged nor released. */
  readonly #held = new Set<string>();
  #unsureUntil = 0;
  #lookAt = 0;
  #closing: Promise<void> | null = null;

  constructor(options: Options, { aliveMs = ALIVE_MS }: ListTimes) {
    const { trigger, namespace, name, installation, consumer, resolve } = options;
    this.#options = options;
    this.#aliveMs = aliveMs;
    this.touchEveryMs = aliveMs / 4;
    this.#consumer = `${installation}:${namespace}/${name}/${trigger.name}:${consumer}`;
    this.#keys = keysOf(trigger.list, this.#consumer);
    const connection = { url: trigger.url, resolve, clientName: `fn-${namespace}-${name}-${trigger.name}` };
    this.#waiter = new RedisConnection(connection);
    this.#commands = new RedisConnection(connection);
  }

  async receive(max: number, waitMs: number, signal: AbortSignal): Promise<SourceMessage[]> {
    const { clock } = this.#options;
    const end = clock.now() + waitMs;
    while (!signal.aborted && this.#closing === null) {
      try {
        await this.#recoverDead();
        const messages = await this.#take(Math.min(max, MAX_TAKE));
        if (messages.length > 0) {
          if (!signal.aborted) return messages;
          await this.release(messages);
          return [];
        }
        const left = end - clock.now();
        if (left <= 0) return [];
        await this.#wait(Math.min(left, BLOCK_MS), signal);
      } catch (error) {
        if (signal.aborted || this.#closing !== null) return [];
        throw error;
      }
    }
    return [];
  }

  async ack(messages: readonly SourceMessage[]): Promise<void> {
    let others = 0;
    for (const ids of this.#chunks(messages)) {
      others += asNumber(await this.#run(ACK, ids));
      for (const id of ids) this.#held.delete(id);
    }
    if (others > 0)
      throw new Error(`${others} of ${messages.length} messages had been given back, since this consumer was silent for too long`);
  }

  async release(messages: readonly SourceMessage[]): Promise<void> {
    for (const ids of this.#chunks(messages)) {
      await this.#run(RELEASE, [this.#push, ...ids]);
      for (const id of ids) this.#held.delete(id);
    }
  }

  /** One sign of life is for all that it has. */
  async touch(_messages: readonly SourceMessage[]): Promise<void> {
    await this.#run(BEAT, [this.#consumer, this.#aliveMs]);
  }

  async lag(): Promise<number | null> {
    return asNumber(await this.#commands.call('LLEN', this.#options.trigger.list));
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#waiter.close();
    try {
      await this.#run(RELEASE, [this.#push]);
      await this.#run(LEAVE, [this.#consumer]);
    } catch (error) {
      // They go back when this consumer's time is over; nothing is lost.
      this.#options.log.warn({ error: String(error) }, 'messages of a list could not be given back');
    } finally {
      this.#commands.close();
    }
  }

  get #right(): boolean {
    return this.#options.trigger.from === 'right';
  }

  get #push(): string {
    return this.#right ? 'RPUSH' : 'LPUSH';
  }

  #run(script: Script, args: readonly (string | number)[]): Promise<unknown> {
    return this.#commands.run(script, this.#keys, args);
  }

  /** Until there is something in the list: it is moved to where it is, which waits as long as there is nothing to move. */
  async #wait(waitMs: number, signal: AbortSignal): Promise<void> {
    const hangUp = () => this.#waiter.drop();
    signal.addEventListener('abort', hangUp, { once: true });
    const { list } = this.#options.trigger;
    const end = this.#right ? 'RIGHT' : 'LEFT';
    try {
      await this.#waiter.block(waitMs, 'BLMOVE', list, list, end, end, Math.max(0.01, waitMs / 1_000));
    } finally {
      signal.removeEventListener('abort', hangUp);
    }
  }

  async #take(max: number): Promise<SourceMessage[]> {
    const taken = await this.#run(TAKE, [this.#consumer, max, this.#right ? 'RPOP' : 'LPOP', this.#aliveMs]).catch((error: unknown) => {
      this.#unsureUntil = this.#options.clock.now() + UNSURE_MS;
      this.#lookAt = 0;
      throw error;
    });
    const answer = asList(taken);
    const { list } = this.#options.trigger;
    const source = `${this.#commands.address}/${encodeURIComponent(list)}`;
    const messages: SourceMessage[] = [];
    for (let index = 0; index + 2 < answer.length; index += 3) {
      const id = asText(answer[index]);
      const message = toSourceMessage({
        id,
        source,
        type: 'fn.redis-list',
        subject: null,
        time: null,
        contentType: null,
        data: asBuffer(answer[index + 2]),
        deliveries: asNumber(answer[index + 1]),
        orderKey: null,
        attributes: {},
        untyped: true,
      });
      const ordered = { ...message, orderKey: message.extensions.partitionkey ?? null };
      this.#ids.set(ordered, id);
      this.#held.add(id);
      messages.push(ordered);
    }
    return messages;
  }

  async #recoverDead(): Promise<void> {
    const { clock, trigger, log } = this.#options;
    if (clock.now() < this.#lookAt) return;
    if (clock.now() < this.#unsureUntil) await this.#rescue();
    const dead = asList(await this.#run(EXPIRED, [this.#consumer, this.#aliveMs])).map(asText);
    for (const consumer of dead) {
      const count = asNumber(await this.#commands.run(RECOVER, keysOf(trigger.list, consumer), [consumer, this.#push]));
      if (count > 0)
        log.info({ list: trigger.list, consumer, messages: count }, 'messages of a consumer that is gone went back to their list');
    }
    this.#lookAt = clock.now() + BLOCK_MS;
  }

  /** This consumer is alive, so nobody else would give back what it has and was never told of. */
  async #rescue(): Promise<void> {
    const count = asNumber(await this.#run(RESCUE, [this.#push, ...this.#held]));
    if (count > 0)
      this.#options.log.info(
        { list: this.#options.trigger.list, messages: count },
        'messages whose delivery was cut off went back to their list',
      );
  }

  *#chunks(messages: readonly SourceMessage[]): Generator<string[]> {
    const ids = messages.map((message) => this.#ids.get(message)).filter((id) => id !== undefined);
    for (let at = 0; at < ids.length; at += MAX_IDS) yield ids.slice(at, at + MAX_IDS);
  }
}

/** Opens the source of a trigger of type redis-list, which connects when it is first used; with times of its own for a test. */
export const openList = (options: Options, times: ListTimes = {}): Source => new RedisListSource(options, times);
export const openSource: OpenSource<TriggerOf<'redis-list'>> = async (options) => openList(options);
