/**
 * Runs one trigger that takes from a broker: takes what the filter lets through, calls the function with batches, as many
 * at a time as the backlog deserves, and acknowledges what succeeded or is kept as a dead letter. What failed is held and tried again.
 * No message leaves the broker before that, and none of it costs an instance while nothing comes.
 */
import { MAX_EVENT_BYTES } from '#contract/events.ts';
import type { BrokerTrigger, TriggerStatus } from '#contract/trigger.ts';
import { backoffMs } from '#kit/backoff.ts';
import { sleep } from '#kit/clock.ts';
import { type Verdict, isPlatformsFault, verdictOf } from '../core/events.ts';
import { matches } from '../core/event-filter.ts';
import type { OpenSource, Source, SourceMessage } from '../triggers/types.ts';
import { Acks } from './trigger-acks.ts';
import { outcomesOf } from './trigger-answer.ts';
import { filterView } from './cloudevents.ts';
import { deliveryOf } from './trigger-delivery.ts';
import { bury } from './trigger-graves.ts';
import { HeldMessages } from './trigger-held.ts';
import { Pace } from './trigger-pace.ts';
import { type Held, TriggerQueue } from './trigger-queue.ts';
import type { DeliveryResult, FunctionEvents, TriggerHost } from './types.ts';

/** So many messages are taken ahead of the calls at least: a broker's answer may take as long as several calls. */
const MIN_AHEAD = 64;
/** Most calls at a time: the dispatcher's other functions need theirs. */
const MAX_CALLS = 1_000;
/** Data of one batch, bytes; one message alone may be longer. */
const MAX_BATCH_DATA_BYTES = 2 * MAX_EVENT_BYTES;
/** A receive waits so long in the broker, ms. While it is not known whether the broker is there, shorter. */
const RECEIVE_MS = 5_000;
const FIRST_RECEIVE_MS = 250;
const RECONNECT = { baseMs: 200, maxMs: 15_000 };
/** How often calls at a time are decided on, ms; and the lag asked for while something is held. Else every LAG_IDLE_MS. */
const DECIDE_MS = 500;
const LAG_IDLE_MS = 5_000;
/** Acknowledgements that are under way when it ends have so long, ms. */
const CLOSE_ACKS_MS = 5_000;

export interface RunnerOptions {
  host: TriggerHost;
  of: FunctionEvents;
  trigger: BrokerTrigger;
  /** Loads the adapter of its type, and opens the source. */
  open: OpenSource;
}

export class TriggerRunner {
  readonly #options: RunnerOptions;
  readonly #trigger: BrokerTrigger;
  #of: FunctionEvents;
  readonly #stop = new AbortController();
  /** Ends deliveries that are under way. */
  readonly #cut = new AbortController();
  readonly #queue: TriggerQueue;
  readonly #held: HeldMessages;
  readonly #pace: Pace;
  #source: Source | null = null;
  #acks: Acks | null = null;
  #calls = new Set<Promise<void>>();
  #graves = new Set<Promise<void>>();
  /** The platform could not deliver: until then nothing is called, and then one at a time until it can. */
  #coolUntil = 0;
  #cooling = false;
  #timer: () => void = () => {};
  #wakeIntake: () => void = () => {};
  #state: 'connecting' | 'running' | 'failing' = 'connecting';
  #detail: string | null = null;
  #trouble: string | null = null;
  #counts = { succeeded: 0, failed: 0, deadLettered: 0, filtered: 0 };
  #lastEventAt: number | null = null;
  #running: Promise<void> | null = null;
  #closing: Promise<void> | null = null;

  constructor(options: RunnerOptions) {
    this.#options = options;
    this.#trigger = options.trigger;
    this.#of = options.of;
    const { clock } = options.host;
    this.#held = new HeldMessages(this.#trigger.maxAttempts);
    this.#pace = new Pace(clock.now());
    this.#queue = new TriggerQueue({
      batchSize: this.#trigger.batchSize,
      windowMs: this.#trigger.batchWindowMs,
      maxBytes: MAX_BATCH_DATA_BYTES,
      now: () => clock.now(),
      after: (ms, run) => clock.after(ms, run),
      wake: () => this.#pump(),
    });
  }

  start(): void {
    this.#running ??= this.#run();
  }

  /** What its function may take now. */
  update(of: FunctionEvents): void {
    this.#of = of;
  }

  status(): TriggerStatus {
    return {
      state: this.#trouble === null ? this.#state : 'failing',
      detail: this.#trouble ?? this.#detail ?? this.#twice(),
      lag: this.#pace.lag,
      inFlight: this.#held.size,
      concurrency: this.#limit(),
      ...this.#counts,
      lastEventAt: this.#lastEventAt,
      nextAt: null,
    };
  }

  #twice(): string | null {
    const count = this.#acks?.possibleDuplicates ?? 0;
    return count === 0 ? null : `${count} messages may have come twice: the broker did not hear that they were done`;
  }

  /** Takes no more; calls that are under way may end within `graceMs`; the rest goes back to the broker. */
  close(graceMs: number): Promise<void> {
    this.#closing ??= this.#close(graceMs);
    return this.#closing;
  }

  async #close(graceMs: number): Promise<void> {
    this.#stop.abort();
    this.#wakeIntake();
    this.#timer();
    this.#queue.clear();
    const late = this.#options.host.clock.after(graceMs, () => this.#cut.abort());
    await Promise.allSettled(this.#calls);
    late();
    await Promise.allSettled(this.#graves);
    await this.#running;
    const acks = this.#acks?.close();
    const told = new AbortController();
    // Aborted: the acknowledgements were told first.
    await Promise.race([acks, sleep(CLOSE_ACKS_MS, told.signal).catch(() => {})]);
    told.abort();
    // What is left goes back with it.
    await this.#source?.close();
    this.#held.clear();
  }

  async #run(): Promise<void> {
    const { log } = this.#options.host;
    const watch = this.#watch();
    for (let failures = 0; !this.#stop.signal.aborted;) {
      try {
        this.#source ??= await this.#open();
        await this.#intake(this.#source);
        failures = 0;
      } catch (error) {
        if (this.#stop.signal.aborted) break;
        failures += 1;
        const detail = error instanceof Error ? error.message : String(error);
        if (this.#detail !== detail) log.warn({ ...this.#names(), error: detail }, 'a trigger cannot take messages');
        this.#state = 'failing';
        this.#detail = detail;
        // Stopped meanwhile: the loop sees it.
        await sleep(backoffMs(failures, RECONNECT), this.#stop.signal).catch(() => {});
      }
    }
    await watch;
  }

  async #open(): Promise<Source> {
    const { host, open } = this.#options;
    const { namespace, name } = this.#of;
    const trigger = host.fill(namespace, this.#trigger);
    const { installation, consumer, clock, log } = host;
    const resolve = host.resolveFor(this.#of);
    const source = await open({ trigger, namespace, name, installation, consumer, resolve, clock, log });
    this.#acks = new Acks({ source, clock, log, ended: (held) => this.#forget(held) });
    return source;
  }

  /** One round: what there is, up to what there is room for. Throws where the broker is away. */
  async #intake(source: Source): Promise<void> {
    // Stopped while the source opened: nobody wakes the intake any more.
    if (this.#stop.signal.aborted) return;
    const max = this.#room();
    if (max === 0) {
      await new Promise<void>((resolve) => (this.#wakeIntake = resolve));
      return;
    }
    const waitMs = this.#state === 'running' ? RECEIVE_MS : FIRST_RECEIVE_MS;
    const messages = await source.receive(max, waitMs, this.#stop.signal);
    if (this.#state === 'failing') this.#options.host.log.info(this.#names(), 'a trigger takes messages again');
    this.#state = 'running';
    this.#detail = null;
    if (messages.length === 0) return;
    this.#pace.received(messages.length);
    this.#lastEventAt = this.#options.host.clock.wall();
    for (const message of messages) this.#take(message);
    this.#pump();
  }

  /** How many messages may be taken now: for twice as many calls as are made at a time. */
  #room(): number {
    if (this.#stop.signal.aborted) return 0;
    const ahead = Math.max(MIN_AHEAD, 2 * this.#limit() * this.#trigger.batchSize) - this.#queue.ready;
    return Math.max(0, Math.min(ahead, this.#held.room));
  }

  #take(message: SourceMessage): void {
    const held = this.#held.take(message, this.#options.host.clock.now());
    if (held === null) return;
    if (this.#acks!.knows(held.key, message)) this.#acks!.add(held);
    else if (message.data.length > this.#trigger.maxPayloadBytes) this.#tooLarge(held);
    else if (this.#trigger.filter !== null && !matches(this.#trigger.filter, filterView(message))) {
      this.#counts.filtered += 1;
      this.#acks!.add(held);
    } else this.#queue.add(held);
  }

  #tooLarge(held: Held): void {
    const detail = `It has ${held.message.data.length} bytes; the trigger takes ${this.#trigger.maxPayloadBytes}.`;
    this.#bury(held, 'too-large', { code: 'body-too-large', detail, status: null });
  }

  #forget(held: Held): void {
    if (this.#held.forget(held)) this.#wakeIntake();
  }

  #most(): number {
    return Math.max(1, Math.min(this.#trigger.concurrency ?? MAX_CALLS, this.#of.maxSlots));
  }

  #limit(): number {
    const most = this.#most();
    return this.#cooling ? 1 : Math.min(most, this.#pace.limit);
  }

  /** Starts as many calls as may be. */
  #pump(): void {
    const { clock } = this.#options.host;
    this.#timer();
    while (!this.#stop.signal.aborted) {
      if (this.#queue.ready === 0) break;
      if (this.#calls.size >= this.#limit()) {
        this.#pace.saturated();
        break;
      }
      const wait = this.#coolUntil - clock.now();
      if (wait > 0) {
        this.#timer = clock.after(wait, () => this.#pump());
        break;
      }
      const next = this.#queue.take();
      if (next === null) break;
      if ('at' in next) {
        this.#timer = clock.after(Math.max(0, next.at - clock.now()), () => this.#pump());
        break;
      }
      const call = this.#call(next.batch).finally(() => {
        this.#calls.delete(call);
        this.#pump();
      });
      this.#calls.add(call);
    }
    if (this.#room() > 0) this.#wakeIntake();
  }

  async #call(batch: Held[]): Promise<void> {
    const { host } = this.#options;
    const started = host.clock.now();
    for (const held of batch) held.firstAt ??= started;
    const result = await host.deliverer.deliver(deliveryOf(this.#of, this.#trigger, batch), this.#cut.signal);
    // What was cut off is nobody's failure: it goes back as it is.
    if (this.#cut.signal.aborted && result.problem !== null) return;
    const now = host.clock.now();
    this.#pace.called(batch.length, Math.max(0, now - started - result.waitedMs));
    this.#cool(result, now);
    const { outcomes, whole } = outcomesOf(
      result,
      batch.map(({ message }) => message.id),
    );
    batch.forEach((held, index) => {
      held.request = result.requestId;
      const verdict = verdictOf({
        outcome: outcomes[index]!,
        attempts: held.attempts,
        expiresAt: held.firstAt! + this.#trigger.maxAgeSeconds * 1_000,
        policy: {
          maxAttempts: this.#trigger.maxAttempts,
          retryBaseMs: this.#trigger.retryBaseSeconds * 1_000,
          retryMaxMs: this.#trigger.retryMaxSeconds * 1_000,
        },
        known: true,
        at: now,
        chance: Math.random(),
      });
      this.#settle(held, verdict, whole && batch.length > 1);
    });
  }

  #settle(held: Held, verdict: Verdict, alone: boolean): void {
    if (verdict.verdict === 'retry') {
      if (verdict.counted) {
        held.attempts += 1;
        held.alone ||= alone;
        this.#counts.failed += 1;
      }
      held.dueAt = verdict.dueAt;
      this.#queue.again(held);
    } else if (verdict.verdict === 'dead') {
      if (verdict.counted) {
        held.attempts += 1;
        this.#counts.failed += 1;
      }
      this.#bury(held, verdict.reason, verdict.error);
    } else {
      this.#counts.succeeded += 1;
      this.#queue.over(held);
      this.#acks!.add(held);
    }
  }

  #cool({ problem, retryAfterSeconds }: DeliveryResult, now: number): void {
    this.#cooling = problem !== null && isPlatformsFault(problem.code);
    if (this.#cooling)
      this.#coolUntil = now + Math.min(5_000, Math.max(100, (retryAfterSeconds ?? 0.5) * 1_000)) * (0.5 + Math.random() / 2);
  }

  #bury(held: Held, reason: Extract<Verdict, { verdict: 'dead' }>['reason'], error: Extract<Verdict, { verdict: 'dead' }>['error']): void {
    const { host } = this.#options;
    const death = { message: held.message, reason, error, attempts: held.attempts, request: held.request };
    const troubled = (why: string | null) => {
      if (why !== null && why !== this.#trouble) host.log.warn({ ...this.#names(), error: why }, 'a dead letter cannot be kept');
      this.#trouble = why;
    };
    const grave = bury(death, { host, of: this.#of, trigger: this.#trigger, troubled }, this.#stop.signal)
      .then((kept) => {
        if (!kept) return;
        this.#counts.deadLettered += 1;
        this.#queue.over(held);
        this.#acks!.add(held);
        this.#pump();
      })
      .finally(() => this.#graves.delete(grave));
    this.#graves.add(grave);
  }

  /** Beside the intake: how much waits, how many calls, and that what is held stays ours. */
  async #watch(): Promise<void> {
    const { clock, log } = this.#options.host;
    const { signal } = this.#stop;
    let touchedAt = clock.now();
    let askedAt = 0;
    for (;;) {
      // Aborted: what follows sees it.
      await sleep(DECIDE_MS, signal).catch(() => {});
      // Until all calls have ended: what they are about must stay ours.
      if (signal.aborted && this.#calls.size + this.#graves.size === 0) return;
      if (signal.aborted) await sleep(DECIDE_MS);
      const source = this.#source;
      if (source === null) continue;
      try {
        if (source.touchEveryMs !== null && clock.now() - touchedAt >= source.touchEveryMs && this.#held.size > 0) {
          touchedAt = clock.now();
          await source.touch(this.#held.messages);
        }
        if (this.#state === 'running' && !signal.aborted && clock.now() - askedAt >= (this.#held.size > 0 ? DECIDE_MS : LAG_IDLE_MS)) {
          askedAt = clock.now();
          this.#pace.lag = await source.lag();
        }
      } catch (error) {
        // The intake meets the same trouble, and says so.
        log.debug({ ...this.#names(), error: String(error) }, 'a broker did not answer a question');
      }
      this.#pace.decide(clock.now(), this.#queue.ready, this.#most());
      this.#pump();
    }
  }

  #names(): { namespace: string; function: string; trigger: string } {
    return { namespace: this.#of.namespace, function: this.#of.name, trigger: this.#trigger.name };
  }
}
