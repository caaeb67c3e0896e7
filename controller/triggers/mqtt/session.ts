/**
 * One connection of MQTT 5, or 3.1.1, with acknowledgements in our own hands. The client mqtt.js works on what arrives
 * one after the other: a message that is not acknowledged yet holds up all behind it, answers to pings too. A trigger
 * has many in work at a time, so only its codec (mqtt-packet) is used.
 */
import { type Socket, connect as dial } from 'node:net';
import { connect as dialTls } from 'node:tls';
import { type IConnackPacket, type IPublishPacket, type Packet, type QoS, generate, parser } from 'mqtt-packet';
import type { Clock } from '#kit/clock.ts';
import { CONNECT_TIMEOUT_MS, REQUEST_TIMEOUT_MS, brokerError, hostPort, readUrl } from '../broker-connection.ts';
import type { ResolveHost } from '../types.ts';

/** Either side is gone that has been silent for one and a half of it. */
const KEEPALIVE_SECONDS = 20;
/** Refusals of a broker that does not know MQTT 5: of 3.1.1, and of 5. */
const UNKNOWN_VERSION: ReadonlySet<number> = new Set([1, 0x84]);
/** From here on a reason code says that it was refused. */
const REFUSED = 0x80;
const MAX_PACKET_ID = 65_535;

export type MqttVersion = 4 | 5;

export interface SessionOptions {
  url: string;
  resolve: ResolveHost;
  clock: Clock;
  version: MqttVersion;
  clientId: string;
  /** true: nothing of it is kept by the broker. */
  clean: boolean;
  /** How long the broker keeps what comes while nobody is connected, seconds. MQTT 5. */
  sessionSeconds: number;
  /** Most messages that the broker sends before the first of them is acknowledged. MQTT 5. */
  receiveMaximum: number;
  onMessage(packet: IPublishPacket): void;
}

/** The broker speaks 3.1.1 alone. */
export class UnknownVersion extends Error {}

const portOf = (url: string): number => (url.startsWith('mqtts:') ? 8883 : 1883);
export const mqttName = (url: string): string => {
  const { host, port } = readUrl(url, portOf(url));
  return `mqtt://${hostPort(host, port)}`;
};

interface Waiting {
  done(packet: Packet): void;
  failed(error: Error): void;
}

export class Session {
  readonly version: MqttVersion;
  readonly #options: SessionOptions;
  readonly #socket: Socket;
  readonly #parser;
  /** By packet id, those that wait for the broker's answer. */
  readonly #waiting = new Map<number, Waiting>();
  /** For a free place among those that the broker takes at a time. */
  readonly #queue: (() => void)[] = [];
  #connack: ((packet: IConnackPacket) => void) | null = null;
  #sendMaximum = MAX_PACKET_ID;
  #packetId = 0;
  #heard: number;
  #stopPings: (() => void) | null = null;
  #reason: Error | null = null;
  #tellEnd: (reason: Error) => void = () => {};
  /** Resolves with why it has ended. */
  readonly ended: Promise<Error>;

  private constructor(options: SessionOptions, socket: Socket) {
    this.#options = options;
    this.version = options.version;
    this.#socket = socket;
    this.#heard = options.clock.now();
    this.ended = new Promise((resolve) => (this.#tellEnd = resolve));
    this.#parser = parser({ protocolVersion: options.version });
    this.#parser.on('packet', (packet) => this.#arrived(packet));
    this.#parser.on('error', (error: unknown) => this.#end(new Error('the broker sent what is not MQTT', { cause: error })));
    socket.on('data', (chunk) => {
      this.#heard = options.clock.now();
      this.#parser.parse(chunk);
    });
    socket.on('error', (error) => this.#end(error));
    socket.on('close', () => this.#end(new Error('the connection was lost')));
  }

  /** Dials and greets. Throws UnknownVersion where the broker does not know this version. */
  static async open(options: SessionOptions): Promise<Session> {
    const { host, port, username, password } = readUrl(options.url, portOf(options.url));
    let session: Session | null = null;
    try {
      const address = await options.resolve(host, port);
      const to = { host: address.host, port };
      const socket = options.url.startsWith('mqtts:')
        ? dialTls({ ...to, ...(address.servername === undefined ? {} : { servername: address.servername }) })
        : dial(to);
      socket.setNoDelay(true);
      session = new Session(options, socket);
      await session.#greet(username, password);
      return session;
    } catch (error) {
      session?.destroy();
      if (error instanceof UnknownVersion) throw error;
      throw brokerError(mqttName(options.url), error, [password]);
    }
  }

  async #greet(username: string | null, password: string | null): Promise<void> {
    const { clientId, clean, version, sessionSeconds, receiveMaximum, clock } = this.#options;
    const answered = new Promise<IConnackPacket>((resolve) => (this.#connack = resolve));
    this.#send({
      cmd: 'connect',
      protocolId: 'MQTT',
      protocolVersion: version,
      clientId,
      clean,
      keepalive: KEEPALIVE_SECONDS,
      ...(username === null ? {} : { username }),
      ...(password === null ? {} : { password: Buffer.from(password) }),
      ...(version === 5 ? { properties: { sessionExpiryInterval: sessionSeconds, receiveMaximum } } : {}),
    });
    let cancel = () => {};
    const late = new Promise<Error>((resolve) => {
      cancel = clock.after(CONNECT_TIMEOUT_MS, () => resolve(new Error(`no answer within ${CONNECT_TIMEOUT_MS} ms`)));
    });
    const connack = await Promise.race([answered, this.ended, late]);
    cancel();
    if (connack instanceof Error) throw connack;
    const code = connack.reasonCode ?? connack.returnCode ?? 0;
    if (version === 5 && UNKNOWN_VERSION.has(code)) throw new UnknownVersion();
    if (code !== 0) throw new Error(`it refuses: ${connack.properties?.reasonString ?? refusal(code)}`);
    this.#sendMaximum = connack.properties?.receiveMaximum ?? MAX_PACKET_ID;
    this.#ping(connack.properties?.serverKeepAlive ?? KEEPALIVE_SECONDS);
  }

  #ping(keepaliveSeconds: number): void {
    if (this.#reason !== null) return;
    this.#stopPings = this.#options.clock.after(keepaliveSeconds * 500, () => {
      if (this.#options.clock.now() - this.#heard > keepaliveSeconds * 1_500) {
        this.#end(new Error(`the broker has been silent for ${keepaliveSeconds * 1.5} s`));
        return;
      }
      this.#send({ cmd: 'pingreq' });
      this.#ping(keepaliveSeconds);
    });
  }

  #arrived(packet: Packet): void {
    switch (packet.cmd) {
      case 'connack':
        this.#connack?.(packet);
        return;
      case 'publish':
        this.#options.onMessage(packet);
        return;
      case 'pubrel':
        this.#send({ cmd: 'pubcomp', messageId: packet.messageId! });
        return;
      case 'disconnect':
        this.#end(new Error(`the broker ends it: ${packet.properties?.reasonString ?? refusal(packet.reasonCode ?? 0)}`));
        return;
      case 'pubrec':
        if ((packet.reasonCode ?? 0) < REFUSED) {
          this.#send({ cmd: 'pubrel', messageId: packet.messageId! });
          return;
        }
        this.#waiting.get(packet.messageId!)?.done(packet);
        return;
      case 'puback':
      case 'pubcomp':
      case 'suback':
        this.#waiting.get(packet.messageId!)?.done(packet);
        return;
      default:
        return;
    }
  }

  #send(packet: Packet): void {
    if (this.#reason === null) this.#socket.write(generate(packet, { protocolVersion: this.version }));
  }

  #end(reason: Error): void {
    if (this.#reason !== null) return;
    this.#reason = reason;
    this.#stopPings?.();
    this.#socket.destroy();
    for (const waiting of this.#waiting.values()) waiting.failed(reason);
    this.#waiting.clear();
    for (const next of this.#queue.splice(0)) next();
    this.#tellEnd(reason);
  }

  /** Sends what is answered, under a packet id of its own, and waits for the answer. Throws where it is a refusal. */
  async #ask(make: (messageId: number) => Packet): Promise<Packet> {
    while (this.#reason === null && this.#waiting.size >= this.#sendMaximum)
      await new Promise<void>((resolve) => this.#queue.push(resolve));
    if (this.#reason !== null) throw this.#reason;
    do this.#packetId = (this.#packetId % MAX_PACKET_ID) + 1;
    while (this.#waiting.has(this.#packetId));
    const id = this.#packetId;
    let cancel = () => {};
    try {
      return await new Promise<Packet>((resolve, reject) => {
        this.#waiting.set(id, { done: resolve, failed: reject });
        cancel = this.#options.clock.after(REQUEST_TIMEOUT_MS, () => reject(new Error(`no answer within ${REQUEST_TIMEOUT_MS} ms`)));
        this.#send(make(id));
      });
    } finally {
      cancel();
      this.#waiting.delete(id);
      this.#queue.shift()?.();
    }
  }

  /** Throws where the broker refuses. A subscription that is there is left as it is: retained messages do not come again (MQTT 5). */
  async subscribe(topic: string, qos: QoS): Promise<void> {
    const subscription = this.version === 5 ? { topic, qos, nl: false, rap: true, rh: 1 } : { topic, qos };
    const answer = await this.#ask((messageId) => ({ cmd: 'subscribe', messageId, subscriptions: [subscription] }));
    const granted = answer.cmd === 'suback' ? Number(answer.granted[0]) : REFUSED;
    if (granted >= REFUSED) throw new Error(`it refuses the subscription to ${topic}: ${refusal(granted)}`);
  }

  /** Resolves when the broker has it: QoS 0 when it is written. */
  async publish(packet: Pick<IPublishPacket, 'topic' | 'payload' | 'qos' | 'properties'>): Promise<void> {
    const whole = { cmd: 'publish', dup: false, retain: false, ...packet } as const;
    if (packet.qos === 0) {
      if (this.#reason !== null) throw this.#reason;
      await new Promise<void>((resolve, reject) => {
        this.#socket.write(generate(whole, { protocolVersion: this.version }), (error) => (error ? reject(error) : resolve()));
      });
      return;
    }
    const answer = await this.#ask((messageId) => ({ ...whole, messageId }));
    const code = 'reasonCode' in answer ? (answer.reasonCode ?? 0) : 0;
    if (code >= REFUSED) throw new Error(`it refuses a message of topic ${packet.topic}: ${refusal(code)}`);
  }

  /** The broker may forget it. */
  acknowledge({ qos, messageId }: IPublishPacket): void {
    if (qos !== 0) this.#send({ cmd: qos === 1 ? 'puback' : 'pubrec', messageId: messageId! });
  }

  /** Says goodbye; what is written before arrives. The broker keeps the session, unless it was a clean one. */
  async close(): Promise<void> {
    if (this.#reason === null) {
      this.#send({ cmd: 'disconnect', reasonCode: 0 });
      this.#reason = new Error('it is closed');
      this.#stopPings?.();
      this.#socket.end();
      for (const waiting of this.#waiting.values()) waiting.failed(this.#reason);
      const stop = this.#options.clock.after(REQUEST_TIMEOUT_MS, () => this.#socket.destroy());
      await new Promise<void>((resolve) => (this.#socket.closed ? resolve() : this.#socket.once('close', () => resolve())));
      stop();
      this.#tellEnd(this.#reason);
    }
  }

  destroy(): void {
    this.#end(new Error('it is closed'));
  }
}

/** What reason and return codes mean that users meet; the rest is in MQTT 5, table 2.6. */
function refusal(code: number): string {
  const meanings: Record<number, string> = {
    2: 'the client id is not allowed',
    3: 'it is not available',
    4: 'wrong user name or password',
    5: 'not authorised',
    0x80: 'it does not say why',
    0x85: 'the client id is not allowed',
    0x86: 'wrong user name or password',
    0x87: 'not authorised',
    0x88: 'it is not available',
    0x89: 'it is busy',
    0x8e: 'another client took over the session: client ids must differ',
    0x8f: 'the topic filter is not allowed',
    0x90: 'the topic is not allowed',
    0x97: 'over quota',
    0x9e: 'it has no shared subscriptions',
    0xa2: 'it has no wildcard subscriptions',
  };
  return `${meanings[code] ?? 'see MQTT 5, table 2.6'} (code ${code})`;
}

/** Opens with MQTT 5, and with 3.1.1 where the broker knows no other. */
export async function openSession(options: Omit<SessionOptions, 'version'>): Promise<Session> {
  try {
    return await Session.open({ ...options, version: 5 });
  } catch (error) {
    if (!(error instanceof UnknownVersion)) throw error;
    return await Session.open({ ...options, version: 4 });
  }
}
