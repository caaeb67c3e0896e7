/** Events, letters and settlements of a test, said in a few words. */
import { afterEach, beforeEach } from 'vitest';
import { FnError } from '#contract/errors.ts';
import type { EventStore, NewDeadLetter, NewEvent, Settlement } from '../../controller/store/events.ts';

/** A place where a store keeps its things: what was written is there when it is opened again. */
export interface EventStorePlace {
  open(): Promise<EventStore>;
  /** Closes what is open, and removes it. */
  end(): Promise<void>;
}

export const LANE = 'default/f';
export const T = 1_790_000_000_000;

const ID_LENGTH = 24;
/** An EventId that can be read: `e-000…one`. */
export const idOf = (name: string): string =>
  `e-${name
    .toLowerCase()
    .replaceAll(/[^0-9a-z]/g, '')
    .padStart(ID_LENGTH, '0')
    .slice(-ID_LENGTH)}`;

export function event(name: string, changes: Partial<NewEvent> = {}): NewEvent {
  return {
    id: idOf(name),
    lane: LANE,
    namespace: 'default',
    name: 'f',
    trigger: null,
    dedup: null,
    orderKey: null,
    createdAt: T,
    dueAt: T,
    expiresAt: T + 3_600_000,
    payload: Uint8Array.from([0, 255, 128, 10, 13, ...new TextEncoder().encode(name)]),
    ...changes,
  };
}

export const ATTEMPT = { request: 'r-1', revision: 'default/f@3' };
export const ERROR = { code: 'function-error', detail: 'It said "nö".\n', status: 500 };
export const RESULT = { result: Uint8Array.from([0, 200, 255]), resultInfo: { status: 200, bytes: 3, truncated: false } };

type Of = { id: string; fence: number };
const base = ({ id, fence }: Of) => ({ id, fence, at: T + 10, attempt: ATTEMPT });

export const succeeded = (of: Of, changes: Partial<Extract<Settlement, { outcome: 'succeeded' }>> = {}): Settlement => ({
  ...base(of),
  outcome: 'succeeded',
  ...RESULT,
  keptUntil: T + 1_000,
  ...changes,
});
export const retry = (of: Of, changes: Partial<Extract<Settlement, { outcome: 'retry' }>> = {}): Settlement => ({
  ...base(of),
  outcome: 'retry',
  dueAt: T + 500,
  counted: true,
  error: ERROR,
  ...changes,
});
export const dead = (of: Of, changes: Partial<Extract<Settlement, { outcome: 'dead' }>> = {}): Settlement => ({
  ...base(of),
  outcome: 'dead',
  reason: 'attempts',
  error: ERROR,
  counted: true,
  result: null,
  resultInfo: null,
  keptUntil: T + 1_000,
  ...changes,
});
export const released = (of: Of): Settlement => ({ ...base(of), outcome: 'released' });

export function letter(name: string, changes: Partial<NewDeadLetter> = {}): NewDeadLetter {
  return {
    event: event(name, { trigger: 'queue' }),
    message: `m-${name}`,
    reason: 'attempts',
    error: ERROR,
    attempts: 3,
    request: 'r-9',
    deadAt: T,
    keptUntil: T + 1_000,
    ...changes,
  };
}

/** All that is due in the lane. */
export const claimAll = (store: EventStore, owner = 'o1', at = T, lane = LANE, limit = 1_000) => store.claim(owner, [{ lane, limit }], at);

export const idsOf = (found: readonly { id: string }[]): string[] => found.map(({ id }) => id);

/** `done`, or the code of the FnError that it was rejected with. */
export const codeOf = (run: Promise<unknown>): Promise<unknown> =>
  run.then(
    () => 'done',
    (error: unknown) => (error instanceof FnError ? error.code : error),
  );

/** A new store for each test, in which `o1` takes part. */
export function eachWithStore(
  makePlace: () => Promise<EventStorePlace>,
  set: (opened: { place: EventStorePlace; store: EventStore }) => void,
): void {
  let place: EventStorePlace;
  beforeEach(async () => {
    place = await makePlace();
    const store = await place.open();
    await store.join('o1', T + 60_000);
    set({ place, store });
  });
  afterEach(() => place.end());
}
