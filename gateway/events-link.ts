/**
 * The gateway's end of the link to the dispatcher (contract/events-link.ts): dials it, asks what clients want
 * of it, and takes what it has to be delivered. The dispatcher runs only where there are events: while it
 * cannot be reached and somebody wants it, the controller is told so, and what was asked waits a moment.
 * Each question ends: with an answer, or unavailable.
 */
import type { Socket } from 'node:net';
import { DispatcherMessage, type GatewayEventMessage, MAX_EVENTS_LINE_BYTES } from '#contract/events-link.ts';
import { type BackoffOptions, backoffMs } from '#kit/backoff.ts';
import type { Clock } from '#kit/clock.ts';
import type { Log } from '#kit/log.ts';
import { endLines, LineDialer } from '#kit/line-client.ts';
import type { LinkTarget } from '#kit/link-endpoint.ts';
import { encodeLine } from '#kit/ndjson.ts';
import type { DeadlineWheel, WheelEntry, WheelSlot } from './wheel.ts';

/** Between attempts to connect. */
const RECONNECT: BackoffOptions = { baseMs: 10, maxMs: 1_000, jitter: 0.3 };
/** The same while somebody waits for it: a dispatcher that is started is there within a second. */
const WANTED_RECONNECT_MS = 20;
/** Without welcome after this the dispatcher is taken for stuck. */
const WELCOME_TIMEOUT_MS = 10_000;
/** How long a question waits for the dispatcher to be there. */
export const CONNECT_WAIT_MS = 3_000;
/** How long it may take to answer one. */
export const ANSWER_TIMEOUT_MS = 5_000;
/** The controller is told at most this often that it is wanted. */
const WANT_EVERY_MS = 1_000;
/** Questions that wait to be sent, and what may lie unsent on the link, characters together: beyond it no more is asked. */
const MAX_UNSENT = 64 * 1_024 * 1_024;

type Heard<T extends DispatcherMessage['type']> = Extract<DispatcherMessage, { type: T }>;
export type Deliver = Heard<'deliver'>;
export type EventAnswer = Heard<'accepted' | 'refused' | 'invocation' | 'answer'>;
type Question = Extract<GatewayEventMessage, { type: 'accept' | 'webhook' | 'invocation' }>;
/** A question without its number, which the link gives it. */
export type EventQuestion = Question extends infer Q ? (Q extends Question ? Omit<Q, 'seq'> : never) : never;
type Told = Exclude<GatewayEventMessage, Question | { type: 'hello' }>;

/** Who asks. Exactly one of them is called, later, unless the question is forgotten. */
export interface EventAsker {
  onEventAnswer(answer: EventAnswer): void;
  /** 503: nobody is there, or it did not answer. */
  onEventsUnavailable(detail: string): void;
}

/** A question, until it is answered. */
export interface OpenQuestion {
  /** The answer is of no interest any more. Idempotent. */
  forget(): void;
}

export interface EventsLinkOptions {
  /** null: there is no dispatcher. */
  target: LinkTarget | null;
  gateway: string;
  boot: string;
  clock: Clock;
  wheel: DeadlineWheel;
  log: Log;
  /** Tells the controller that the dispatcher is wanted. */
  want: () => void;
  onDeliver(message: Deliver): void;
  onAbandon(seq: number): void;
  /** After a welcome: what is being delivered has nobody to be told to. */
  onDown(): void;
}

class Asked implements OpenQuestion, WheelEntry {
  wheel: WheelSlot | null = null;
  readonly #link: EventsLink;
  readonly seq: number;
  readonly asker: EventAsker;
  /** What is still to be sent; null once it is. */
  line: string | null;

  constructor(link: EventsLink, seq: number, line: string, asker: EventAsker) {
    this.#link = link;
    this.seq = seq;
    this.line = line;
    this.asker = asker;
  }

  forget(): void {
    this.#link.drop(this);
  }

  onDeadline(): void {
    this.#link.overdue(this);
  }
}

const NOT_THERE =
  'the dispatcher of events cannot be reached now: it is being started, or cannot write its store, as on a full disk (fn doctor says); nothing was accepted';

export class EventsLink {
  readonly #options: EventsLinkOptions;
  readonly #dialer: LineDialer | null;
  #socket: Socket | null = null;
  #up = false;
  #closed = false;
  #attempt = 0;
  #seq = 0;
  /** In the order in which they were asked. */
  readonly #open = new Map<number, Asked>();
  /** Of the questions that are not sent. */
  #waitingChars = 0;
  #wantedUntil = Number.NEGATIVE_INFINITY;
  #toldAt = Number.NEGATIVE_INFINITY;
  /** What goes out together at the end of this turn of the event loop. */
  #out = '';
  #cancelTimer: () => void = () => {};

  constructor(options: EventsLinkOptions) {
    this.#options = options;
    this.#dialer = options.target === null ? null : new LineDialer(options.target);
  }

  /** Between welcome and the end of the connection. */
  get up(): boolean {
    return this.#up;
  }

  /** Questions that are not answered. */
  get asked(): number {
    return this.#open.size;
  }

  start(): void {
    if (this.#dialer !== null) this.#connect(this.#dialer);
  }

  ask(question: EventQuestion, asker: EventAsker): OpenQuestion {
    const { clock, wheel } = this.#options;
    const dialer = this.#dialer;
    const seq = ++this.#seq;
    const line = encodeLine({ ...question, seq } satisfies GatewayEventMessage);
    const asked = new Asked(this, seq, line, asker);
    if (dialer === null || this.#closed || line.length > MAX_EVENTS_LINE_BYTES || this.#unsent + line.length > MAX_UNSENT) {
      const detail =
        dialer === null ? 'this gateway has no dispatcher of events' : 'too much waits for the dispatcher of events; nothing was accepted';
      // Not before the asker has the question in hand.
      queueMicrotask(() => asker.onEventsUnavailable(detail));
      return asked;
    }
    this.#open.set(seq, asked);
    if (this.#up) {
      this.#put(asked);
    } else {
      this.#waitingChars += line.length;
      wheel.set(asked, clock.now() + CONNECT_WAIT_MS);
      this.#want(dialer);
    }
    return asked;
  }

  /** False where there is nobody to tell. */
  tell(message: Told): boolean {
    if (!this.#up) return false;
    this.#write(encodeLine(message));
    return true;
  }

  /** For the question itself. */
  drop(asked: Asked): void {
    if (!this.#open.delete(asked.seq)) return;
    this.#options.wheel.cancel(asked);
    if (asked.line !== null) this.#waitingChars -= asked.line.length;
    asked.line = null;
  }

  /** For the question itself. */
  overdue(asked: Asked): void {
    const sent = asked.line === null;
    this.drop(asked);
    asked.asker.onEventsUnavailable(
      sent ? `the dispatcher of events did not answer within ${ANSWER_TIMEOUT_MS} ms; it may have accepted it` : NOT_THERE,
    );
  }

  /** Sends what is still to be sent, and ends the link. What is asked is answered: unavailable. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#cancelTimer();
    this.#flush();
    for (const asked of this.#open.values()) this.overdue(asked);
    await endLines(this.#socket, this.#options.clock);
  }

  get #unsent(): number {
    return this.#waitingChars + this.#out.length + (this.#socket?.writableLength ?? 0);
  }

  #put(asked: Asked): void {
    const { clock, wheel } = this.#options;
    wheel.set(asked, clock.now() + ANSWER_TIMEOUT_MS);
    const line = asked.line!;
    asked.line = null;
    this.#write(line);
  }

  /** Answers of many deliveries come in one turn of the event loop; they go out in one write. */
  #write(line: string): void {
    if (this.#out === '') setImmediate(() => this.#flush());
    this.#out += line;
  }

  #flush(): void {
    const out = this.#out;
    this.#out = '';
    const socket = this.#socket;
    if (out === '' || !this.#up || socket === null) return;
    if (socket.writableLength > MAX_UNSENT) socket.destroy(new Error('the dispatcher does not read its link'));
    else socket.write(out);
  }

  #want(dialer: LineDialer): void {
    const { clock, want } = this.#options;
    const now = clock.now();
    const wanted = now < this.#wantedUntil;
    this.#wantedUntil = now + CONNECT_WAIT_MS;
    if (now - this.#toldAt >= WANT_EVERY_MS) {
      this.#toldAt = now;
      want();
    }
    // It was tried for long, and so is not tried often.
    if (wanted || this.#socket !== null) return;
    this.#cancelTimer();
    this.#connect(dialer);
  }

  #connect(dialer: LineDialer): void {
    const { clock, log, gateway, boot } = this.#options;
    this.#socket = dialer.dial({
      maxLineBytes: MAX_EVENTS_LINE_BYTES,
      onConnect: (socket) => {
        socket.write(encodeLine({ type: 'hello', gateway, boot } satisfies GatewayEventMessage));
        this.#cancelTimer = clock.after(WELCOME_TIMEOUT_MS, () => socket.destroy(new Error('the dispatcher did not say welcome')));
      },
      onLine: (line) => this.#receive(line),
      onClose: (reason) => {
        this.#cancelTimer();
        const wasUp = this.#up;
        this.#up = false;
        this.#socket = null;
        this.#out = '';
        if (wasUp) {
          if (!this.#closed) log.warn({ reason: reason ?? 'closed by the dispatcher' }, 'link to the dispatcher lost');
          this.#lost();
        }
        if (this.#closed) return;
        this.#attempt++;
        const wanted = clock.now() < this.#wantedUntil;
        if (wanted && clock.now() - this.#toldAt >= WANT_EVERY_MS && this.#open.size > 0) this.#want(dialer);
        const delay = wanted ? WANTED_RECONNECT_MS : backoffMs(this.#attempt, RECONNECT);
        this.#cancelTimer = clock.after(delay, () => this.#connect(dialer));
      },
    });
  }

  /** What was sent and not answered may have been accepted, and nobody will ever say so. */
  #lost(): void {
    this.#options.onDown();
    for (const asked of this.#open.values()) {
      if (asked.line !== null) continue;
      this.drop(asked);
      asked.asker.onEventsUnavailable('the link to the dispatcher of events broke before it answered; it may have accepted it');
    }
  }

  /** Throws where the link is not to be used on. */
  #receive(line: string): void {
    const message = DispatcherMessage.parse(JSON.parse(line));
    if (message.type !== 'welcome' && !this.#up) throw new Error(`${message.type} before welcome`);
    try {
      this.#handle(message);
    } catch (error) {
      // A fault of this process with one message is no fault of the link.
      const { log } = this.#options;
      log.error({ type: message.type, error: error instanceof Error ? error.stack : String(error) }, 'a message of the dispatcher failed');
    }
  }

  #handle(message: DispatcherMessage): void {
    if (message.type === 'welcome') this.#welcomed();
    else if (message.type === 'deliver') this.#options.onDeliver(message);
    else if (message.type === 'abandon') this.#options.onAbandon(message.seq);
    else this.#answered(message);
  }

  #welcomed(): void {
    this.#cancelTimer();
    this.#up = true;
    this.#attempt = 0;
    this.#options.log.info({}, 'link to the dispatcher is up');
    this.#waitingChars = 0;
    for (const asked of this.#open.values()) if (asked.line !== null) this.#put(asked);
  }

  /** One that nobody waits for any more came too late. */
  #answered(message: EventAnswer): void {
    const asked = this.#open.get(message.seq);
    if (asked === undefined) return;
    this.drop(asked);
    asked.asker.onEventAnswer(message);
  }
}
