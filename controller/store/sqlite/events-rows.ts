/** Rows of the database of events, and what they are to the port. */
import type { SQLOutputValue } from 'node:sqlite';
import { FnError } from '#contract/errors.ts';
import { DeadLetterView, EventError, type InvocationState } from '#contract/events.ts';
import { z } from 'zod';
import type { Claim, NewEvent, StoredDeadLetter, StoredEvent } from '../events.ts';
import { parseJson } from './connection.ts';
import { STATE } from './events-schema.ts';

export type Row = Record<string, SQLOutputValue>;

/** Below it an event is not over. */
export const ENDED = STATE.succeeded;

const STATES = Object.keys(STATE) as InvocationState[];
const NO_PAYLOAD = new Uint8Array(0);

const Dedup = z.object({ key: z.string(), fingerprint: z.string(), until: z.number() });
const ResultInfo = z.object({ status: z.number(), bytes: z.number(), truncated: z.boolean() });

/** Columns of an event with its lane; `e` and `l` in the FROM clause. */
export const EVENT_COLUMNS = 'e.*, l.lane AS lane_name, l.namespace, l.name';

export const text = (value: SQLOutputValue | undefined): string | null => (value === null || value === undefined ? null : String(value));
export const number = (value: SQLOutputValue | undefined): number | null => (value === null || value === undefined ? null : Number(value));
export const bytes = (value: SQLOutputValue | undefined): Uint8Array | null => (value instanceof Uint8Array ? value : null);

/** Times may come with a fraction (a pause that was drawn by lot); they are kept in whole milliseconds. */
export const ms = (time: number): number => Math.floor(time);

export const json = (value: unknown): string | null => (value === null || value === undefined ? null : JSON.stringify(value));

/** Throws FnError store-unavailable that names the event. */
function stored<T>(schema: z.ZodType<T>, value: SQLOutputValue | undefined, id: string): T | null {
  const found = text(value);
  if (found === null) return null;
  const parsed = schema.safeParse(parseJson(found));
  if (parsed.success) return parsed.data;
  throw new FnError('store-unavailable', `The stored event ${id} cannot be read: purge it, or restore the database from a backup.`);
}

export function stateOf(row: Row): InvocationState {
  return STATES[Number(row.state)] ?? 'queued';
}

export function toEvent(row: Row, payload: Uint8Array | null): NewEvent {
  const id = String(row.id);
  return {
    id,
    lane: String(row.lane_name),
    namespace: String(row.namespace),
    name: String(row.name),
    trigger: text(row.trigger),
    dedup: stored(Dedup, row.dedup, id),
    orderKey: text(row.order_key),
    createdAt: Number(row.created_at),
    dueAt: Number(row.due_at),
    expiresAt: Number(row.expires_at),
    payload: payload ?? NO_PAYLOAD,
  };
}

/** Of a row as it is after it was claimed. */
export function toClaim(row: Row, event: NewEvent): Claim {
  return {
    id: event.id,
    fence: Number(row.fence),
    deliveries: Number(row.deliveries),
    attempts: Number(row.attempts),
    firstAt: Number(row.first_at ?? row.claimed_at),
    event,
  };
}

export function toStored(row: Row, payload: Uint8Array | null): StoredEvent {
  const id = String(row.id);
  return {
    event: toEvent(row, payload),
    state: stateOf(row),
    fence: Number(row.fence),
    attempts: Number(row.attempts),
    deliveries: Number(row.deliveries),
    request: text(row.request),
    revision: text(row.revision),
    error: stored(EventError, row.error, id),
    resultInfo: stored(ResultInfo, row.result_info, id),
    finishedAt: number(row.finished_at),
    keptUntil: number(row.kept_until),
  };
}

const UNKNOWN_ERROR: EventError = { code: 'internal', detail: 'The error was not kept.', status: null };

export function toDeadLetter(row: Row, payload: Uint8Array | null): StoredDeadLetter {
  const id = String(row.id);
  const reason = DeadLetterView.shape.reason.safeParse(row.reason);
  if (!reason.success) throw new FnError('store-unavailable', `The stored dead letter ${id} cannot be read: purge it.`);
  return {
    event: toEvent(row, payload),
    message: text(row.message),
    reason: reason.data,
    error: stored(EventError, row.error, id) ?? UNKNOWN_ERROR,
    attempts: Number(row.attempts),
    request: text(row.request),
    deadAt: Number(row.finished_at),
    keptUntil: Number(row.kept_until),
  };
}
