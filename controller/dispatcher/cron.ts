/**
 * Runs one schedule. A tick becomes an event of the function's own lane, under an id made of the schedule and its time: two
 * dispatchers, or one that was started again, make one event of it. The last tick is kept, so that missed ones are known.
 *
 * Ticks are times of the wall clock, and none is fired that is not after the last one. A clock that jumps forward
 * misses ticks (and `missed` says what becomes of them); one that jumps back fires none again.
 */
import { createHash } from 'node:crypto';
import { FnError } from '#contract/errors.ts';
import type { TriggerOf, TriggerStatus } from '#contract/trigger.ts';
import { backoffMs } from '#kit/backoff.ts';
import { timeOfDay } from '#kit/clock.ts';
import { nextTick, ticksBetween } from '#kit/schedule.ts';
import type { NewEvent } from '../store/events.ts';
import { binaryHeaders } from './cloudevents.ts';
import { encodePayload } from './payload.ts';
import type { FunctionEvents, TriggerHost } from './types.ts';

/** Ticks that are not older are on time, ms: a busy machine is late by less. */
const ON_TIME_MS = 5_000;
/** So is the newest one within this, ms: a dispatcher that is started anew needs seconds. All other ones were missed. */
const NEWEST_ON_TIME_MS = 60_000;
/** Missed ticks that are made up for, at most; the latest ones. */
export const MAX_MISSED = 100;
/** Longest that a timer runs, ms: the wall clock may jump meanwhile. */
const MAX_TIMER_MS = 60_000;
/** A last tick that is so far in the future was of a clock that went wrong, ms. */
const MAX_AHEAD_MS = 86_400_000;
const RETRY = { baseMs: 500, maxMs: 30_000 };
/** A tick is known as fired for so long, ms: longer than any second dispatcher may lag behind. */
const DEDUP_MS = 86_400_000;

/** Where the last tick is kept; with `trigger` '' the beginning that those of a function share. */
export const cronStateKey = (namespace: string, name: string, trigger: string): string =>
  // Ends with what no name has: `a` must not be the beginning of `ab`.
  `cron/${namespace}/${name}/${trigger === '' ? '' : `${trigger}/`}`;

type CronTrigger = TriggerOf<'cron'>;

interface CronState {
  /** Scheduled time of the last tick that was fired or is not to be. */
  last: number;
  schedule: string;
  timezone: string;
}

/** Ticks that are due, and the time up to which all is decided. Pure. */
export function dueTicks(
  { schedule, timezone, missed }: Pick<CronTrigger, 'schedule' | 'timezone' | 'missed'>,
  last: number,
  now: number,
): number[] {
  const ticks = ticksBetween(schedule, timezone, last, now, MAX_MISSED + ON_TIME_MS / 1_000 + 1);
  const isOnTime = (tick: number) => tick > now - (tick === ticks.at(-1) ? NEWEST_ON_TIME_MS : ON_TIME_MS);
  const late = ticks.filter((tick) => !isOnTime(tick));
  const onTime = ticks.filter(isOnTime);
  const madeUp = missed === 'all' ? late.slice(-MAX_MISSED) : missed === 'once' ? late.slice(-1) : [];
  return [...madeUp, ...onTime];
}

/** The event of a tick. The same tick is always the same event. */
export function tickEvent(of: FunctionEvents, trigger: CronTrigger, tick: number, at: number, installation: string): NewEvent {
  const { namespace, name } = of;
  const id = tickId([installation, namespace, name, trigger.name, String(tick)]);
  const time = new Date(tick).toISOString();
  const body = trigger.data === undefined ? Buffer.alloc(0) : Buffer.from(JSON.stringify(trigger.data));
  const headers = binaryHeaders({
    specversion: '1.0',
    id,
    source: `/functions/${namespace}/${name}/triggers/${trigger.name}`,
    type: 'fn.schedule',
    time,
    ...(body.length === 0 ? {} : { datacontenttype: 'application/json' }),
    trigger: trigger.name,
    scheduledtime: time,
    cron: trigger.schedule,
    timezone: trigger.timezone,
  });
  return {
    id,
    lane: `${namespace}/${name}`,
    namespace,
    name,
    trigger: trigger.name,
    dedup: { key: `tick:${tick}`, fingerprint: 'tick', until: at + DEDUP_MS },
    orderKey: null,
    createdAt: at,
    dueAt: at,
    expiresAt: at + trigger.maxAgeSeconds * 1_000,
    payload: encodePayload({ kind: 'schedule', revision: null, traceparent: null, method: 'POST', path: trigger.path, headers, body }),
  };
}

/** An EventId: 124 bits of a hash. Who does not know the installation's id cannot guess it. */
function tickId(of: readonly string[]): string {
  const number = BigInt(`0x${createHash('sha256').update(of.join('\n')).digest('hex')}`);
  return `e-${(number % 36n ** 24n).toString(36).padStart(24, '0')}`;
}

export class CronRunner {
  readonly #host: TriggerHost;
  readonly #trigger: CronTrigger;
  #of: FunctionEvents;
  #last: number | null = null;
  #failures = 0;
  #detail: string | null = null;
  #fired = 0;
  #lastEventAt: number | null = null;
  #cancel: () => void = () => {};
  #closed = false;
  #turn: Promise<void> = Promise.resolve();

  constructor({ host, of, trigger }: { host: TriggerHost; of: FunctionEvents; trigger: CronTrigger }) {
    this.#host = host;
    this.#of = of;
    this.#trigger = trigger;
  }

  start(): void {
    this.#next(0);
  }

  update(of: FunctionEvents): void {
    this.#of = of;
  }

  status(): TriggerStatus {
    return {
      state: this.#detail === null ? (this.#last === null ? 'connecting' : 'running') : 'failing',
      detail: this.#detail,
      lag: null,
      inFlight: 0,
      concurrency: 1,
      succeeded: this.#fired,
      failed: 0,
      deadLettered: 0,
      filtered: 0,
      lastEventAt: this.#lastEventAt,
      nextAt: this.#last === null ? null : nextTick(this.#trigger.schedule, this.#trigger.timezone, this.#last),
    };
  }

  /** Resolves when what is being enqueued is. Idempotent. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#cancel();
    await this.#turn;
  }

  #next(ms: number): void {
    if (this.#closed) return;
    this.#cancel = this.#host.clock.after(ms, () => {
      this.#turn = this.#tick().then(
        (pause) => {
          if (this.#detail !== null) this.#host.log.info(this.#names(), 'a schedule is kept again');
          this.#failures = 0;
          this.#detail = null;
          this.#next(pause);
        },
        (error: unknown) => this.#failed(error),
      );
    });
  }

  #failed(error: unknown): void {
    this.#failures += 1;
    const detail = error instanceof Error ? error.message : String(error);
    if (this.#detail !== detail) this.#host.log.warn({ ...this.#names(), error: detail }, 'a tick could not be enqueued');
    this.#detail = detail;
    const asked = error instanceof FnError ? (error.options.retryAfterSeconds ?? 0) * 1_000 : 0;
    this.#next(Math.max(asked, backoffMs(this.#failures, RETRY)));
  }

  /** Fires what is due. Returns after how many ms to look again. Throws where nothing durable came of it: `last` stays. */
  async #tick(): Promise<number> {
    const { clock } = this.#host;
    const now = timeOfDay(clock);
    const last = await this.#lastTick(now);
    const due = dueTicks(this.#trigger, last, now);
    if (due.length > 0) {
      await this.#host.enqueue(due.map((tick) => tickEvent(this.#of, this.#trigger, tick, clock.wall(), this.#host.installation)));
      this.#fired += due.length;
      this.#lastEventAt = now;
    }
    const next = nextTick(this.#trigger.schedule, this.#trigger.timezone, Math.max(last, now));
    const before = nextTick(this.#trigger.schedule, this.#trigger.timezone, last);
    // All ticks up to now are decided, fired or not.
    if (before !== null && before <= now) await this.#keep(Math.max(last, due.at(-1) ?? now));
    return next === null ? MAX_TIMER_MS : Math.min(MAX_TIMER_MS, Math.max(1, next - timeOfDay(clock)));
  }

  async #lastTick(now: number): Promise<number> {
    if (this.#last === null) {
      const kept = await this.#host.store.getState(this.#key());
      const state = kept === null ? null : readState(kept);
      const { schedule, timezone } = this.#trigger;
      // A new schedule has missed nothing.
      if (state === null || state.schedule !== schedule || state.timezone !== timezone) await this.#keep(now);
      else this.#last = state.last;
    }
    const last = this.#last ?? now;
    if (last <= now + MAX_AHEAD_MS) return last;
    this.#host.log.warn({ ...this.#names(), last: new Date(last).toISOString() }, 'the last tick lies days ahead: the clock was wrong');
    await this.#keep(now);
    return now;
  }

  async #keep(last: number): Promise<void> {
    const { schedule, timezone } = this.#trigger;
    await this.#host.store.putState(this.#key(), JSON.stringify({ last, schedule, timezone } satisfies CronState));
    this.#last = last;
  }

  #key(): string {
    return cronStateKey(this.#of.namespace, this.#of.name, this.#trigger.name);
  }

  #names(): { namespace: string; function: string; trigger: string } {
    return { namespace: this.#of.namespace, function: this.#of.name, trigger: this.#trigger.name };
  }
}

/** null: it is not what we wrote. */
function readState(text: string): CronState | null {
  const state = JSON.parse(text) as Partial<CronState>;
  const { last, schedule, timezone } = state;
  return typeof last === 'number' && typeof schedule === 'string' && typeof timezone === 'string' ? { last, schedule, timezone } : null;
}
