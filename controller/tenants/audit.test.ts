import { afterEach, beforeEach, expect, it } from 'vitest';
import type { AuditEntry, Principal } from '#contract/tenancy.ts';
import { type Clock, systemClock } from '#kit/clock.ts';
import { silentLog } from '#kit/log.ts';
import { IN_MEMORY, openSqliteStore } from '../store/sqlite/store.ts';
import type { Store } from '../store/types.ts';
import { AuditLog } from './audit.ts';

const OWNER: Principal = { id: 'owner', name: 'owner', scopes: ['admin'], namespaces: '*' };
const reader = (...namespaces: string[]): Principal => ({ id: 't-aaaaaaaaaaaa', name: 'r', scopes: ['read'], namespaces });

let store: Store;
let audit: AuditLog;
let now: number;
beforeEach(() => {
  now = 0;
  const clock: Clock = { ...systemClock, now: () => now, wall: () => 1_000 + now };
  store = openSqliteStore({ path: IN_MEMORY, log: silentLog });
  audit = new AuditLog({ store, clock, log: silentLog, keep: 200 });
});
afterEach(() => store.close());

const entry = (more: Partial<AuditEntry> = {}): Omit<AuditEntry, 'id' | 't'> => ({
  by: { id: 'owner', name: 'owner' },
  action: 'secret.set',
  namespace: 'shop',
  subject: 'API_KEY',
  request: 'r-1',
  outcome: 'ok',
  detail: { version: 1 },
  ...more,
});
const all = () => audit.list(OWNER, { limit: 10_000 });

it('is on the disk when it resolves, with its time', async () => {
  await audit.record(entry());
  expect(await all()).toEqual([{ ...entry(), id: 1, t: 1_000 }]);
});

it('shows who reads what is theirs', async () => {
  for (const namespace of ['shop', 'blog', null]) await audit.record(entry({ namespace }));
  const seen = async (principal: Principal, namespace?: string) =>
    (await audit.list(principal, { ...(namespace === undefined ? {} : { namespace }), limit: 10 })).map((one) => one.namespace);
  expect(await seen(OWNER)).toEqual([null, 'blog', 'shop']);
  expect(await seen(reader('shop'))).toEqual(['shop']);
  expect(await seen(reader('shop'), 'blog')).toEqual([]);
  expect(await seen(OWNER, 'blog')).toEqual(['blog']);
});

it('attempts that fail cannot push out what was done: so many a minute of each, the rest is counted', async () => {
  const bad = () => audit.record(entry({ by: { id: 't-bad000000000', name: 'bad' }, outcome: 'forbidden' }));
  for (let index = 0; index < 1_000; index++) await bad();
  expect(await all()).toHaveLength(60);
  // Others are not held back, nor is what is done by the same one.
  await audit.record(entry({ outcome: 'forbidden' }));
  await audit.record(entry({ by: { id: 't-bad000000000', name: 'bad' } }));
  expect((await all())[0]).toMatchObject({ outcome: 'ok', detail: { version: 1, attemptsNotWritten: 940 } });
  expect(await all()).toHaveLength(62);
  now = 60_000;
  await bad();
  expect((await all())[0]).toMatchObject({ outcome: 'forbidden', detail: { version: 1 } });
});

it('keeps the newest', async () => {
  for (let index = 0; index < 1_001; index++) await audit.record(entry({ subject: String(index) }));
  const kept = await all();
  expect(kept).toHaveLength(200);
  expect(kept[0]!.subject).toBe('1000');
});

it('what cannot be written is an error', async () => {
  await store.close();
  await expect(audit.record(entry())).rejects.toMatchObject({ code: 'store-unavailable' });
});

it('counts the attempts of those who made some lately, and of whom some were left out', async () => {
  for (let index = 0; index < 61; index++) await audit.record(entry({ by: { id: 't-bad000000000', name: 'bad' }, outcome: 'forbidden' }));
  for (let index = 0; index < 440; index++) await audit.record(entry({ by: { id: `t-${index}`, name: 'job' } }));
  expect(audit.counted).toBe(441);
  now = 60_000;
  for (let index = 0; index < 501; index++) await audit.record(entry());
  expect(audit.counted).toBe(2);
  await audit.record(entry({ by: { id: 't-bad000000000', name: 'bad' } }));
  expect((await all())[0]).toMatchObject({ detail: { attemptsNotWritten: 1 } });
});
