/** A member of a group of consumers: which partitions are its own, how far they are done, and what is in them. */
import { Consumer, type GroupAssignment, findErrorBy, kGetApi } from '@platformatic/kafka';
import type { TriggerOf } from '#contract/trigger.ts';
import type { Log } from '#kit/log.ts';
import type { ResolveHost } from '../types.ts';
import { reaching } from './cluster.ts';
import { Progress } from './progress.ts';

/** Who has not been heard for so long is no member any more: its partitions go to others. */
const SESSION_TIMEOUT_MS = 20_000;
const HEARTBEAT_MS = 3_000;
/** So long all members have to join anew. */
const REBALANCE_TIMEOUT_MS = 20_000;
/** Of one partition, and of one answer, bytes. A longer message comes all the same. */
const MAX_PARTITION_BYTES = 1_048_576;
const MAX_BYTES = 8 * 1_048_576;
/** The oldest and the next message, as offsets are asked for. */
const EARLIEST = -2n;
const LATEST = -1n;
/** Control records of transactions. */
const CONTROL_BATCH = 1 << 5;

type FetchResponse = Awaited<ReturnType<Consumer['fetch']>>;
interface TopicOffsets {
  name: string;
  partitions: { partitionIndex: number; committedOffset: bigint; committedLeaderEpoch: number; committedMetadata: null }[];
}

export interface KafkaMessage {
  member: Member;
  progress: Progress;
  offset: bigint;
  time: number;
  key: Buffer | null;
  value: Buffer | null;
  headers: readonly (readonly [Buffer | null, Buffer | null])[];
  deliveries: number;
}

export interface MemberOptions {
  trigger: TriggerOf<'kafka'>;
  groupId: string;
  resolve: ResolveHost;
  log: Log;
  /** What a fetch brought; nothing, where it brought nothing. */
  onMessages(messages: KafkaMessage[]): void;
  onFailure(error: Error): void;
  /** These partitions are another's now. */
  onRevoked(revoked: ReadonlySet<Progress>): void;
  /** It is a member no more, and will not be one again. */
  onEnd(reason: Error): void;
}

export class Member {
  readonly #options: MemberOptions;
  readonly #consumer: Consumer;
  /** Ours, by partition; null: where it begins is not known yet. */
  readonly #partitions = new Map<number, Progress | null>();
  /** Under which the partitions are ours: what is committed under an older one is refused. */
  #generation = -1;
  #memberId = '';
  readonly #fetching = new Set<number>();
  #committing: Promise<void> = Promise.resolve();
  #ended = false;

  private constructor(options: MemberOptions) {
    const { trigger, groupId, resolve } = options;
    const { options: common, dial } = reaching(trigger, resolve);
    this.#options = options;
    this.#consumer = new Consumer({
      ...common,
      groupId,
      autocommit: false,
      sessionTimeout: SESSION_TIMEOUT_MS,
      heartbeatInterval: HEARTBEAT_MS,
      rebalanceTimeout: REBALANCE_TIMEOUT_MS,
      maxBytes: MAX_BYTES,
    });
    dial(this.#consumer.connections);
    this.#consumer.on('consumer:group:join', () => this.#joined());
    // It could not join again.
    this.#consumer.on('error', (error: Error) => this.#end(error));
    this.#consumer.topics.track(trigger.topic);
  }

  static async join(options: MemberOptions): Promise<Member> {
    const member = new Member(options);
    try {
      await member.#consumer.metadata({ topics: [options.trigger.topic] });
      await member.#consumer.joinGroup({});
      return member;
    } catch (error) {
      await member.leave();
      const isMissing = error instanceof Error && findErrorBy(error, 'apiId', 'UNKNOWN_TOPIC_OR_PARTITION') !== null;
      throw isMissing ? new Error(`there is no topic ${options.trigger.topic}, or this user may not read it`) : error;
    }
  }

  #end(reason: Error): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#options.onEnd(reason);
    void this.leave();
  }

  /**
   * In a new generation. Who was a member of the one before, and has a partition still, was the only one to have it:
   * what is in work goes on. Any other partition begins where the group has committed.
   */
  #joined(): void {
    const { generationId, memberId, assignments } = this.#consumer;
    const kept = generationId === this.#generation + 1 && memberId === this.#memberId;
    const mine = new Set(ofTopic(assignments, this.#options.trigger.topic));
    const revoked = new Set<Progress>();
    for (const [partition, progress] of this.#partitions) {
      if (kept && mine.has(partition)) continue;
      if (progress !== null) revoked.add(progress);
      this.#partitions.delete(partition);
    }
    for (const partition of mine) if (!this.#partitions.has(partition)) this.#partitions.set(partition, null);
    this.#generation = generationId;
    this.#memberId = memberId ?? '';
    if (revoked.size > 0) this.#options.onRevoked(revoked);
  }

  owns(progress: Progress): boolean {
    return this.#partitions.get(progress.partition) === progress;
  }

  /** Finds where partitions begin that are new to us. */
  async #begin(): Promise<void> {
    const { topic, startFrom } = this.#options.trigger;
    const fresh = [...this.#partitions].filter(([, progress]) => progress === null).map(([partition]) => partition);
    if (fresh.length === 0) return;
    const generation = this.#generation;
    const committed = (await this.#consumer.listCommittedOffsets({ topics: [{ topic, partitions: fresh }] })).get(topic) ?? [];
    for (const partition of fresh) {
      const known = committed[partition] ?? -1n;
      const position = known >= 0n ? known : await this.#offsetOf(partition, startFrom === 'beginning' ? EARLIEST : LATEST);
      if (generation !== this.#generation) return;
      const progress = new Progress(partition, position);
      this.#partitions.set(partition, progress);
      // 'new' means from now on, whenever it is asked: a message that comes before the first is done must not be passed over.
      if (known < 0n) await this.#commit([{ progress, offset: position }]);
    }
  }

  /** Asked for one by one: librdkafka's mock cluster, which the tests have, mangles answers about several. */
  async #offsetOf(partition: number, timestamp: bigint): Promise<bigint> {
    const { topic } = this.#options.trigger;
    const offset = (await this.#consumer.listOffsets({ topics: [topic], partitions: { [topic]: [partition] }, timestamp })).get(topic)?.[
      partition
    ];
    if (offset === undefined) throw new Error(`the cluster does not tell the offsets of partition ${partition} of ${topic}`);
    return offset;
  }

  /** Begins to fetch, from each broker that is not being asked already. What comes is told to onMessages. */
  async fetch(maxWaitMs: number): Promise<void> {
    await this.#begin();
    const { topic } = this.#options.trigger;
    const metadata = await this.#consumer.metadata({ topics: [topic] });
    const of = metadata.topics.get(topic);
    if (of === undefined) throw new Error(`there is no topic ${topic}`);
    const byNode = Map.groupBy(
      [...this.#partitions.values()].filter((progress) => progress !== null),
      ({ partition }) => of.partitions[partition]?.leader ?? -1,
    );
    for (const [node, partitions] of byNode) {
      if (node === -1 || this.#fetching.has(node)) continue;
      this.#fetching.add(node);
      void this.#fetchFrom(node, of.id, partitions, maxWaitMs).finally(() => this.#fetching.delete(node));
    }
  }

  async #fetchFrom(node: number, topicId: string, partitions: Progress[], maxWaitMs: number): Promise<void> {
    const positions = new Map(partitions.map((progress) => [progress.partition, { progress, position: progress.position }]));
    try {
      const answer = await this.#consumer.fetch({
        node,
        maxWaitTime: maxWaitMs,
        minBytes: 1,
        maxBytes: MAX_BYTES,
        topics: partitions.map(({ partition, position }) => ({
          topicId,
          partitions: [
            { partition, fetchOffset: position, currentLeaderEpoch: -1, lastFetchedEpoch: -1, partitionMaxBytes: MAX_PARTITION_BYTES },
          ],
        })),
      });
      this.#options.onMessages(this.#read(answer, positions));
    } catch (error) {
      if (error instanceof Error && findErrorBy(error, 'apiId', 'OFFSET_OUT_OF_RANGE') !== null) await this.#comeInto(partitions);
      else this.#options.onFailure(error instanceof Error ? error : new Error(String(error)));
    }
  }

  #read(answer: FetchResponse, positions: ReadonlyMap<number, { progress: Progress; position: bigint }>): KafkaMessage[] {
    const messages: KafkaMessage[] = [];
    for (const { partitions } of answer.responses) {
      for (const { partitionIndex, records } of partitions) {
        const asked = positions.get(partitionIndex);
        // Lost meanwhile, or begun anew.
        if (asked === undefined || !this.owns(asked.progress) || asked.progress.position !== asked.position) continue;
        const { progress } = asked;
        for (const batch of records ?? []) {
          for (const record of (batch.attributes & CONTROL_BATCH) === 0 ? batch.records : []) {
            const offset = batch.firstOffset + BigInt(record.offsetDelta);
            // A batch is sent whole, though only the end of it was asked for.
            if (offset < progress.position) continue;
            progress.took(offset);
            const { key, value, headers } = record;
            messages.push({
              ...{ member: this, progress, offset, key, value, headers, deliveries: 1 },
              time: Number(batch.firstTimestamp + record.timestampDelta),
            });
          }
          const end = batch.firstOffset + BigInt(batch.lastOffsetDelta) + 1n;
          if (end > progress.position) progress.position = end;
        }
      }
    }
    return messages;
  }

  /** The cluster has deleted what was to be fetched next (retention), or has lost its end. */
  async #comeInto(partitions: readonly Progress[]): Promise<void> {
    try {
      for (const progress of partitions) {
        const [earliest, latest] = [await this.#offsetOf(progress.partition, EARLIEST), await this.#offsetOf(progress.partition, LATEST)];
        const inside = progress.position < earliest ? earliest : progress.position > latest ? latest : progress.position;
        if (inside === progress.position) continue;
        const { topic } = this.#options.trigger;
        const what = { topic, partition: progress.partition, from: String(progress.position), to: String(inside) };
        this.#options.log.warn(what, 'the cluster does not have the next messages any more: the trigger goes on with those that it has');
        progress.position = inside;
      }
    } catch (error) {
      this.#options.onFailure(error instanceof Error ? error : new Error(String(error)));
    }
  }

  /** Commits what is done and not committed yet. One after the other, so that none overtakes a later one. */
  commit(): Promise<void> {
    const work = this.#committing.then(async () => {
      const ready = [...this.#partitions.values()].filter((progress) => progress !== null && progress.next > progress.committed);
      const offsets = ready.map((progress) => ({ progress: progress!, offset: progress!.next }));
      if (offsets.length > 0) await this.#commit(offsets);
    });
    this.#committing = work.catch(() => {});
    return work;
  }

  /**
   * Under the generation by which the partitions are ours, and no other: the client's own `commit` joins again when it
   * is refused, and then overwrites what the new owner has committed.
   */
  async #commit(offsets: readonly { progress: Progress; offset: bigint }[]): Promise<void> {
    const consumer = this.#consumer;
    const { topic } = this.#options.trigger;
    const topics: TopicOffsets[] = [
      {
        name: topic,
        partitions: offsets.map(({ progress, offset }) => ({
          ...{ partitionIndex: progress.partition, committedOffset: offset, committedLeaderEpoch: -1, committedMetadata: null },
        })),
      },
    ];
    const [generation, memberId] = [this.#generation, this.#memberId];
    const coordinator = await consumer.findGroupCoordinator();
    const broker = (await consumer.metadata({ topics: [topic] })).brokers.get(coordinator);
    if (broker === undefined) throw new Error('the group has no coordinator now');
    const connection = await consumer.connections.get(broker);
    await new Promise<void>((resolve, reject) => {
      consumer[kGetApi]<[string, number, string, string | null, TopicOffsets[]], unknown>('OffsetCommit', (error, api) => {
        if (error !== null || api === undefined) return reject(error ?? new Error('the cluster takes no commits'));
        api(connection, this.#options.groupId, generation, memberId, null, topics, (refused) =>
          refused === null ? resolve() : reject(refused),
        );
      });
    });
    for (const { progress, offset } of offsets) if (offset > progress.committed) progress.committed = offset;
  }

  /** Messages after those that were fetched. */
  async behind(): Promise<number> {
    const known = [...this.#partitions.values()].filter((progress) => progress !== null);
    const each = await Promise.all(
      known.map(async ({ partition, position }) => Number((await this.#offsetOf(partition, LATEST)) - position)),
    );
    return each.reduce((sum, count) => sum + Math.max(0, count), 0);
  }

  /** Leaves the group, so that others have the partitions at once. Never throws: who is not heard is left out in the end. */
  async leave(): Promise<void> {
    this.#ended = true;
    await this.#consumer.close(true).catch((error: unknown) => {
      this.#options.log.debug({ error: String(error) }, 'a member of a group left without a word');
    });
  }
}

const ofTopic = (assignments: readonly GroupAssignment[] | null, topic: string): number[] =>
  assignments?.find((assignment) => assignment.topic === topic)?.partitions ?? [];
