/** Messages of an MQTT topic, by a session that the broker keeps while the trigger is away. */
import { createHash } from 'node:crypto';
import type { IPublishPacket, QoS } from 'mqtt-packet';
import type { TriggerOf } from '#contract/trigger.ts';
import { newEventId } from '#kit/ids.ts';
import { BrokerConnection, Inbox, brokerError } from '../broker-connection.ts';
import { toSourceMessage } from '../broker-message.ts';
import type { OpenSource, Source, SourceMessage, SourceOptions } from '../types.ts';
import { readAttributes, topicMatches } from './properties.ts';
import { type Session, mqttName, openSession } from './session.ts';

/** The broker keeps what comes while the trigger is away for so long, seconds (MQTT 5; with 3.1.1 it is the broker's to say). */
const SESSION_SECONDS = 1_209_600;
/** Messages that were sent arrive one after the other: it is over when none has come for so long. */
const SETTLE_MS = 5;
/** Messages that are sent ahead of their acknowledgement: at least, and at most. */
const MIN_AHEAD = 64;
const MAX_AHEAD = 65_535;

type MqttTrigger = TriggerOf<'mqtt'>;

interface Connected {
  session: Session;
  /** In the order in which they came, as they must be acknowledged; QoS 0 is not among them. */
  unacknowledged: Taken[];
  reason: Error | null;
}
interface Taken {
  packet: IPublishPacket;
  connected: Connected;
  id: string;
  done: boolean;
  deliveries: number;
}

class MqttSource implements Source {
  /** What is not acknowledged stays ours for as long as the connection lasts. */
  readonly touchEveryMs = null;
  readonly #options: SourceOptions<MqttTrigger>;
  readonly #broker: string;
  readonly #clientId: string;
  readonly #connection: BrokerConnection<Connected>;
  readonly #inbox = new Inbox<Taken>();
  readonly #taken = new Map<SourceMessage, Taken>();
  /** By packet id: what came with it last, and how often in succession the same did. 65,535 at most. */
  readonly #last = new Map<number, { hash: string; times: number }>();
  #strangerTold = false;

  constructor(options: SourceOptions<MqttTrigger>) {
    const { trigger, namespace, name, installation, clock } = options;
    this.#options = options;
    this.#broker = mqttName(trigger.url);
    this.#clientId = trigger.clientId ?? `fn-${namespace}-${name}-${trigger.name}-${installation}`;
    this.#connection = new BrokerConnection({ open: () => this.#open(), end: ({ session }) => session.close(), clock });
  }

  async #open(): Promise<Connected> {
    const { trigger, resolve, clock } = this.#options;
    // Messages of the kept session come before it is known here.
    const early: IPublishPacket[] = [];
    let connected: Connected | null = null;
    const ahead = 2 * trigger.batchSize * (trigger.concurrency ?? 32);
    const session = await openSession({
      ...{ url: trigger.url, resolve, clock, clientId: this.#clientId, clean: false, sessionSeconds: SESSION_SECONDS },
      receiveMaximum: Math.min(MAX_AHEAD, Math.max(MIN_AHEAD, ahead)),
      onMessage: (packet) => (connected === null ? void early.push(packet) : this.#arrived(connected, packet)),
    });
    const opened: Connected = { session, unacknowledged: [], reason: null };
    connected = opened;
    void session.ended.then((reason) => this.#ended(opened, reason));
    for (const packet of early) this.#arrived(opened, packet);
    try {
      await session.subscribe(trigger.topic, trigger.qos as QoS);
      return opened;
    } catch (error) {
      session.destroy();
      throw brokerError(this.#broker, error);
    }
  }

  #arrived(connected: Connected, packet: IPublishPacket): void {
    if (!topicMatches(this.#options.trigger.topic, packet.topic)) {
      // The session was made by a trigger of another topic, or by somebody with the same client id.
      if (!this.#strangerTold) {
        this.#options.log.warn(
          { topic: packet.topic, clientId: this.#clientId },
          'messages of another topic are in the session: they are dropped',
        );
      }
      this.#strangerTold = true;
      connected.session.acknowledge(packet);
      return;
    }
    const taken: Taken = { packet, connected, id: this.#idOf(packet), done: false, deliveries: packet.dup ? 2 : 1 };
    if (packet.qos > 0) connected.unacknowledged.push(taken);
    this.#inbox.push(taken);
  }

  /**
   * MQTT has no ids, and packet ids are used again. One that comes again has its packet id, topic and payload: these
   * are the id. Where the same come anew with the same packet id, they are counted.
   */
  #idOf({ messageId, topic, payload, dup, qos }: IPublishPacket): string {
    if (qos === 0 || messageId === undefined) return newEventId();
    const hash = createHash('sha256')
      .update(this.#clientId)
      .update('\0')
      .update(topic)
      .update('\0')
      .update(payload)
      .digest('hex')
      .slice(0, 20);
    const before = this.#last.get(messageId);
    const times = before?.hash !== hash ? 0 : dup ? before.times : before.times + 1;
    this.#last.set(messageId, { hash, times });
    return times === 0 ? `${hash}-${messageId}` : `${hash}-${messageId}-${times}`;
  }

  #ended(connected: Connected, reason: Error): void {
    connected.reason = brokerError(this.#broker, reason);
    this.#connection.lost(connected);
    // They come again. Not so those of QoS 0, which nobody else has.
    this.#inbox.drop((taken) => taken.connected === connected && taken.packet.qos > 0);
    this.#inbox.fail(connected.reason);
  }

  async receive(max: number, waitMs: number, signal: AbortSignal): Promise<SourceMessage[]> {
    const { clock } = this.#options;
    await this.#connection.get();
    if (signal.aborted) return [];
    const came = await this.#inbox.take(max, waitMs, signal, clock);
    while (came.length > 0 && came.length < max) {
      const more = await this.#inbox.take(max - came.length, SETTLE_MS, signal, clock);
      if (more.length === 0) break;
      came.push(...more);
    }
    return came.map((taken) => this.#toMessage(taken));
  }

  #toMessage(taken: Taken): SourceMessage {
    const { packet } = taken;
    const attributes = readAttributes(packet);
    const made = toSourceMessage({
      id: attributes['id'] || attributes['ce-id'] || taken.id,
      source: `${this.#broker}/${encodeURIComponent(this.#options.trigger.topic)}`,
      type: 'fn.mqtt',
      subject: packet.topic,
      time: null,
      contentType: packet.properties?.contentType ?? null,
      data: Buffer.from(packet.payload),
      deliveries: taken.deliveries,
      orderKey: null,
      attributes,
      untyped: taken.connected.session.version === 4,
    });
    this.#taken.set(made, taken);
    return made;
  }

  /**
   * They are acknowledged to the broker in the order in which they came, as MQTT demands: one whose forerunners are
   * still being worked on is noted, and acknowledged with them. Waiting for that here could wait for ever, since the
   * forerunner may wait for the place that this one has. What is noted when the connection ends comes again.
   */
  async ack(messages: readonly SourceMessage[]): Promise<void> {
    let lost: Error | null = null;
    for (const message of messages) {
      const taken = this.#taken.get(message);
      this.#taken.delete(message);
      if (taken === undefined) lost = new Error(`${this.#broker}: message ${message.id} is not taken`);
      else if (taken.packet.qos > 0 && taken.connected.reason !== null) lost = taken.connected.reason;
      else {
        taken.done = true;
        const { unacknowledged, session } = taken.connected;
        while (unacknowledged[0]?.done === true) session.acknowledge(unacknowledged.shift()!.packet);
      }
    }
    if (lost !== null) throw new Error(`${lost.message}; what was taken before comes again`);
  }

  /** MQTT has no way to give one back: it is delivered again from here; by the broker, when the connection ends. */
  async release(messages: readonly SourceMessage[]): Promise<void> {
    for (const message of messages) {
      const taken = this.#taken.get(message);
      this.#taken.delete(message);
      if (taken === undefined || (taken.packet.qos > 0 && taken.connected.reason !== null)) continue;
      taken.deliveries += 1;
      this.#inbox.push(taken);
    }
  }

  async touch(): Promise<void> {}

  /** MQTT does not tell. */
  async lag(): Promise<number | null> {
    return null;
  }

  async close(): Promise<void> {
    this.#taken.clear();
    this.#inbox.end();
    await this.#connection.close();
  }
}

/** Never throws: what is wrong is told by `receive`. */
export const openSource: OpenSource<MqttTrigger> = (options) => Promise.resolve(new MqttSource(options));
