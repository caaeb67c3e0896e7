/** Events as arguments of scripts, and what scripts return as events. `''` stands for null; what is there has a `+` before it. */
import { z } from 'zod';
import { FnError } from '#contract/errors.ts';
import { DeadLetterView, EventError, type InvocationState } from '#contract/events.ts';
import type { Claim, NewDeadLetter, NewEvent, Settlement, StoredDeadLetter, StoredEvent } from '../events.ts';
import type { RedisValue } from './connection.ts';
import { VIEW_FIELDS } from './events-library.ts';

/** By the digit that Redis has: the order of sqlite/events-schema.ts. */
export const STATES = ['queued', 'retrying', 'running', 'succeeded', 'failed', 'cancelled'] as const satisfies InvocationState[];

const PLUS = Buffer.from('+');

/** Times may come with a fraction (a pause that was drawn by lot); they are kept in whole milliseconds. */
export const ms = (time: number): number => Math.floor(time);

export const opt = (value: string | null | undefined): string => (value === null || value === undefined ? '' : `+${value}`);

const buffer = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** EVENT_ARGS of them. */
export function eventArgs(event: NewEvent): RedisValue[] {
  const { id, lane, namespace, name, trigger, orderKey, dedup, createdAt, dueAt, expiresAt, payload } = event;
  const of = [id, lane, namespace, name, opt(trigger), opt(orderKey)];
  const key = dedup === null ? ['', '', ''] : [opt(dedup.key), dedup.fingerprint, ms(dedup.until)];
  return [...of, ...key, ms(createdAt), ms(dueAt), ms(expiresAt), buffer(payload)];
}

const OUTCOMES = { succeeded: 's', retry: 'r', dead: 'd', released: 'b' } as const;

/** SETTLEMENT_ARGS of them, then the events that follow. */
export function settlementArgs(settlement: Settlement): RedisValue[] {
  const { id, fence, at, attempt, outcome, following = [] } = settlement;
  const ended = outcome === 'succeeded' || outcome === 'dead' ? settlement : null;
  const time = outcome === 'retry' ? settlement.dueAt : (ended?.keptUntil ?? 0);
  const failed = outcome === 'retry' || outcome === 'dead' ? settlement : null;
  return [
    id,
    fence,
    OUTCOMES[outcome],
    ms(at),
    opt(attempt.request),
    opt(attempt.revision),
    ms(time),
    failed?.counted === true ? 1 : 0,
    failed === null ? '' : opt(JSON.stringify(failed.error)),
    outcome === 'dead' ? settlement.reason : '',
    ended === null || ended.result === null ? '' : Buffer.concat([PLUS, ended.result]),
    ended === null || ended.resultInfo === null ? '' : opt(JSON.stringify(ended.resultInfo)),
    following.length,
    ...following.flatMap(eventArgs),
  ];
}

export function letterArgs({ event, message, reason, error, attempts, request, deadAt, keptUntil }: NewDeadLetter): RedisValue[] {
  return [...eventArgs(event), message, reason, JSON.stringify(error), attempts, opt(request), ms(deadAt), ms(keptUntil)];
}

const NO_PAYLOAD = new Uint8Array(0);
const ResultInfo = z.object({ status: z.number(), bytes: z.number(), truncated: z.boolean() });
const FIELD = new Map(VIEW_FIELDS.map((field, index) => [field, index + 1]));

/** What view() of the scripts returned. */
class Fields {
  readonly id: string;
  readonly #values: unknown[];

  constructor(values: unknown) {
    if (!Array.isArray(values) || values.length !== VIEW_FIELDS.length + 2) throw unreadable('event');
    this.#values = values;
    this.id = String(values[0]);
  }

  text(field: string): string | null {
    const value = this.#values[FIELD.get(field) ?? -1];
    return Buffer.isBuffer(value) ? value.toString('utf8') : null;
  }

  number(field: string): number | null {
    const value = this.text(field);
    return value === null ? null : Number(value);
  }

  /** Throws FnError store-unavailable that names the event. */
  json<T>(field: string, schema: z.ZodType<T>): T | null {
    const text = this.text(field);
    if (text === null) return null;
    const parsed = schema.safeParse(parsedJson(text));
    if (!parsed.success) throw unreadable(`event ${this.id}`);
    return parsed.data;
  }

  get payload(): Uint8Array {
    return toBytes(this.#values.at(-1)) ?? NO_PAYLOAD;
  }

  get event(): NewEvent {
    const lane = this.text('l');
    if (lane === null) throw unreadable(`event ${this.id}`);
    const key = this.text('dk');
    return {
      id: this.id,
      lane,
      namespace: this.text('n') ?? '',
      name: this.text('f') ?? '',
      trigger: this.text('t'),
      dedup: key === null ? null : { key, fingerprint: this.text('df') ?? '', until: this.number('du') ?? 0 },
      orderKey: this.text('k'),
      createdAt: this.number('c') ?? 0,
      dueAt: this.number('d') ?? 0,
      expiresAt: this.number('x') ?? 0,
      payload: this.payload,
    };
  }
}

function parsedJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

const unreadable = (what: string): FnError =>
  new FnError('store-unavailable', `The stored ${what} cannot be read: purge it, or restore Redis from a backup.`);

/** A plain Uint8Array: of a Buffer that Redis' client made. */
export const toBytes = (value: unknown): Uint8Array | null =>
  Buffer.isBuffer(value) ? new Uint8Array(value.buffer, value.byteOffset, value.byteLength) : null;

export function toClaim(values: unknown): Claim {
  const fields = new Fields(values);
  return {
    id: fields.id,
    fence: fields.number('fe') ?? 0,
    deliveries: fields.number('de') ?? 0,
    attempts: fields.number('at') ?? 0,
    firstAt: fields.number('fi') ?? fields.number('ca') ?? 0,
    event: fields.event,
  };
}

export function toStored(values: unknown): StoredEvent {
  const fields = new Fields(values);
  return {
    event: fields.event,
    state: stateOf(fields.text('s')),
    fence: fields.number('fe') ?? 0,
    attempts: fields.number('at') ?? 0,
    deliveries: fields.number('de') ?? 0,
    request: fields.text('rq'),
    revision: fields.text('rv'),
    error: fields.json('er', EventError),
    resultInfo: fields.json('ri', ResultInfo),
    finishedAt: fields.number('z'),
    keptUntil: fields.number('ku'),
  };
}

export function stateOf(digit: string | null): InvocationState {
  const state = STATES[Number(digit ?? -1)];
  if (state === undefined) throw unreadable('event');
  return state;
}

/** null: it is none. */
export function toDeadLetter(values: unknown): StoredDeadLetter | null {
  const fields = new Fields(values);
  if (stateOf(fields.text('s')) !== 'failed') return null;
  const reason = DeadLetterView.shape.reason.safeParse(fields.text('re'));
  const error = fields.json('er', EventError);
  if (!reason.success || error === null) throw unreadable(`dead letter ${fields.id}`);
  return {
    event: fields.event,
    message: fields.text('m'),
    reason: reason.data,
    error,
    attempts: fields.number('at') ?? 0,
    request: fields.text('rq'),
    deadAt: fields.number('z') ?? 0,
    keptUntil: fields.number('ku') ?? 0,
  };
}
