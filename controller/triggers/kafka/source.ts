/** Messages of a Kafka topic, by a group of consumers. A partition's messages are done one after the other. */
import { isUtf8 } from 'node:buffer';
import type { TriggerOf } from '#contract/trigger.ts';
import { MAX_KEY_LENGTH } from '#contract/events.ts';
import { BrokerConnection, Inbox, within } from '../broker-connection.ts';
import { toSourceMessage } from '../broker-message.ts';
import type { OpenSource, Source, SourceMessage, SourceOptions } from '../types.ts';
import { clusterError, clusterName } from './cluster.ts';
import { readHeaders } from './headers.ts';
import { type KafkaMessage, Member } from './member.ts';

/** A fetch waits for messages in the cluster, at least and at most so long. */
const MIN_FETCH_WAIT_MS = 50;
const MAX_FETCH_WAIT_MS = 5_000;
/** Longest wait for the group to let this member go. */
const LEAVE_TIMEOUT_MS = 5_000;

type KafkaTrigger = TriggerOf<'kafka'>;

class KafkaSource implements Source {
  /** Membership is kept up by heartbeats, however long a call takes. */
  readonly touchEveryMs = null;
  readonly #options: SourceOptions<KafkaTrigger>;
  readonly #groupId: string;
  readonly #connection: BrokerConnection<Member>;
  readonly #inbox = new Inbox<KafkaMessage>();
  readonly #taken = new Map<SourceMessage, KafkaMessage>();

  constructor(options: SourceOptions<KafkaTrigger>) {
    const { trigger, namespace, name, clock } = options;
    this.#options = options;
    this.#groupId = trigger.group ?? `fn-${namespace}-${name}-${trigger.name}`;
    this.#connection = new BrokerConnection({
      open: () => this.#open(),
      // A cluster that does not answer leaves it out by itself.
      end: (member) => within(member.leave(), LEAVE_TIMEOUT_MS, clock, 'leaving the group').catch(() => {}),
      clock,
    });
  }

  async #open(): Promise<Member> {
    const { trigger, resolve, log } = this.#options;
    try {
      const member: Member = await Member.join({
        ...{ trigger, groupId: this.#groupId, resolve, log },
        onMessages: (messages) => this.#inbox.push(...messages),
        onFailure: (error) => this.#inbox.fail(clusterError(trigger, error)),
        onRevoked: (revoked) => void this.#inbox.drop(({ progress }) => revoked.has(progress)),
        onEnd: (reason) => {
          this.#connection.lost(member);
          this.#inbox.drop((message) => message.member === member);
          this.#inbox.fail(clusterError(trigger, reason));
        },
      });
      return member;
    } catch (error) {
      throw clusterError(trigger, error);
    }
  }

  async receive(max: number, waitMs: number, signal: AbortSignal): Promise<SourceMessage[]> {
    const { clock, trigger } = this.#options;
    const end = clock.now() + waitMs;
    const member = await this.#connection.get();
    let came: KafkaMessage[] = [];
    for (let left = waitMs; came.length === 0 && left >= 0 && !signal.aborted; left = end - clock.now()) {
      if (this.#inbox.size === 0) {
        try {
          // What could not be committed when it was done.
          await member.commit();
          await member.fetch(Math.min(MAX_FETCH_WAIT_MS, Math.max(MIN_FETCH_WAIT_MS, left)));
        } catch (error) {
          throw clusterError(trigger, error);
        }
      }
      // Told as well where a fetch brings nothing: then it is asked again.
      came = await this.#inbox.take(max, Math.max(0, end - clock.now()), signal, clock);
      if (came.length === 0 && end - clock.now() <= 0) break;
    }
    return came.filter(({ member: of, progress }) => of.owns(progress)).map((message) => this.#toMessage(message));
  }

  #toMessage(message: KafkaMessage): SourceMessage {
    const { topic } = this.#options.trigger;
    const { progress, offset, time, key, value, headers, deliveries } = message;
    const isText = key !== null && key.length > 0 && key.length <= MAX_KEY_LENGTH && isUtf8(key);
    const made = toSourceMessage({
      id: `${topic}:${progress.partition}:${offset}`,
      source: `${clusterName(this.#options.trigger)}/${encodeURIComponent(topic)}`,
      type: 'fn.kafka',
      subject: null,
      time,
      ...readHeaders(headers),
      data: value ?? new Uint8Array(),
      deliveries,
      orderKey: `${topic}:${progress.partition}`,
      extensions: isText ? { partitionkey: key.toString('utf8') } : {},
    });
    this.#taken.set(made, message);
    return made;
  }

  /** Done for the group up to the first that is not; the rest with that one. Throws where a partition is another's now. */
  async ack(messages: readonly SourceMessage[]): Promise<void> {
    const members = new Set<Member>();
    let lost: SourceMessage | null = null;
    for (const message of messages) {
      const taken = this.#taken.get(message);
      this.#taken.delete(message);
      if (taken === undefined || !taken.member.owns(taken.progress) || !taken.progress.finish(taken.offset)) lost = message;
      else members.add(taken.member);
    }
    try {
      for (const member of members) await member.commit();
    } catch (error) {
      throw clusterError(this.#options.trigger, error);
    }
    if (lost !== null) {
      throw clusterError(
        this.#options.trigger,
        new Error(`the partition of ${lost.id} went to another member of ${this.#groupId}: it comes again there`),
      );
    }
  }

  /** Kafka has no way to give one back: it is delivered again from here, and by another member when the partition is his. */
  async release(messages: readonly SourceMessage[]): Promise<void> {
    const back: KafkaMessage[] = [];
    for (const message of messages) {
      const taken = this.#taken.get(message);
      this.#taken.delete(message);
      if (taken !== undefined && taken.member.owns(taken.progress)) back.push({ ...taken, deliveries: taken.deliveries + 1 });
    }
    this.#inbox.unshift(...back);
  }

  async touch(): Promise<void> {}

  async lag(): Promise<number | null> {
    const member = this.#connection.current;
    if (member === null) return null;
    try {
      return (await member.behind()) + this.#inbox.size;
    } catch (error) {
      throw clusterError(this.#options.trigger, error);
    }
  }

  async close(): Promise<void> {
    this.#taken.clear();
    this.#inbox.end();
    await this.#connection.close();
  }
}

/** Never throws: what is wrong is told by `receive`. */
export const openSource: OpenSource<KafkaTrigger> = (options) => Promise.resolve(new KafkaSource(options));
