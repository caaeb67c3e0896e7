/** What only the SQLite event store can do wrong: its file, and what shares a commit. The port is tested in test/conformance. */
import { chmod, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { FnError } from '#contract/errors.ts';
import { silentLog } from '#kit/log.ts';
import type { NewEvent } from '../events.ts';
import { Connection } from './connection.ts';
import { EVENTS_MIGRATIONS } from './events-schema.ts';
import { openSqliteEventStore } from './events.ts';
import { GroupCommit } from './group-commit.ts';
import { openSqliteStore } from './store.ts';

let folder: string;
let path: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'fn-events-'));
  path = join(folder, 'events.db');
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const open = () => openSqliteEventStore({ path, log: silentLog });

function refusal(run: () => unknown): FnError {
  try {
    run();
  } catch (error) {
    if (error instanceof FnError) return error;
    throw error;
  }
  throw new Error('it was not refused');
}

const event = (id: string, changes: Partial<NewEvent> = {}): NewEvent => ({
  id,
  lane: 'default/f',
  namespace: 'default',
  name: 'f',
  trigger: null,
  dedup: null,
  orderKey: null,
  createdAt: 1,
  dueAt: 1,
  expiresAt: 9,
  payload: new Uint8Array([1]),
  ...changes,
});

describe('the file', () => {
  it('and its companions can be read by nobody else', async () => {
    await writeFile(path, '', { mode: 0o644 });
    await chmod(path, 0o644);
    const store = open();
    await store.putState('a', 'b');
    for (const file of await readdir(folder)) expect([file, (await stat(join(folder, file))).mode & 0o777]).toEqual([file, 0o600]);
    await store.close();
  });

  it('of functions and secrets is not taken for it, nor the other way round', async () => {
    await openSqliteStore({ path, log: silentLog }).close();
    expect(refusal(open).message).toContain('is the database of another program');
    const events = join(folder, 'other.db');
    await openSqliteEventStore({ path: events, log: silentLog }).close();
    expect(refusal(() => openSqliteStore({ path: events, log: silentLog })).message).toContain('is the database of another program');
  });

  it('of a newer fn is refused', async () => {
    await open().close();
    const db = new DatabaseSync(path);
    db.exec(`PRAGMA user_version = ${EVENTS_MIGRATIONS.length + 1}`);
    db.close();
    expect(refusal(open)).toMatchObject({ code: 'store-unavailable', message: expect.stringContaining('a newer fn') as string });
  });

  it('gives back what a burst left free of it', async () => {
    const store = open();
    const payload = new Uint8Array(1_048_576);
    const ids = Array.from({ length: 120 }, (_, number) => `e-${number}`);
    await store.enqueue(
      ids.map((id) => event(id, { payload })),
      1,
    );
    await store.join('d', 100);
    const pages = () => {
      const db = new DatabaseSync(path, { readOnly: true });
      const count = Number(db.prepare('PRAGMA page_count').get()?.page_count);
      db.close();
      return count;
    };
    const full = pages();
    expect(await store.forget('default', 'f')).toBe(ids.length);
    for (let call = 0; call < 10; call += 1) await store.prune(2, 100);
    // 64 MiB of 120 are kept for the next one.
    expect(pages()).toBeLessThan(full * 0.75);
    expect(pages()).toBeGreaterThan(full * 0.4);
    await store.close();
  });

  it('that is none says what to do', async () => {
    await writeFile(path, 'x'.repeat(10_000));
    expect(refusal(open)).toMatchObject({ code: 'store-unavailable', message: expect.stringContaining('not a database') as string });
  });

  it('that another process holds locked: the call is told, and the next one goes through', async () => {
    const store = open();
    await store.enqueue([event('before')], 1);
    const other = new DatabaseSync(path);
    other.exec('BEGIN IMMEDIATE');
    await expect(store.enqueue([event('refused')], 1)).rejects.toMatchObject({ code: 'store-unavailable' });
    other.exec('ROLLBACK');
    other.close();
    await store.enqueue([event('after')], 1);
    expect([await store.get('refused'), (await store.lanes(1))[0]?.waiting]).toEqual([null, 2]);
    await store.close();
  });
});

describe('a disk that is nearly full', () => {
  const MIB = 1_048_576;

  it.each([
    ['a large one', 100_000, 512],
    ['a small one', 100, 10],
  ])('has no room while what is to stay free is not: %s', async (_, total, kept) => {
    let free = kept;
    const store = openSqliteEventStore({ path, log: silentLog, space: () => ({ free: free * MIB, total: total * MIB }) });
    const seen = [kept, kept - 1, 0, kept + 1].map((mib) => {
      free = mib;
      return store.hasRoom();
    });
    expect(seen).toEqual([true, false, false, true]);
    await store.close();
  });

  it('has the room that is in the file itself, and takes no dead letters of brokers without', async () => {
    const store = openSqliteEventStore({ path, log: silentLog, space: () => ({ free: 9 * MIB, total: 100 * MIB }) });
    await store.enqueue([event('large', { payload: new Uint8Array(2 * MIB) })], 1);
    expect(store.hasRoom()).toBe(false);
    const letter = { event: event('dead'), message: 'm', reason: 'attempts', attempts: 1, request: null, deadAt: 1, keptUntil: 9 } as const;
    await expect(store.addDead([{ ...letter, error: { code: 'internal', detail: '', status: null } }])).rejects.toMatchObject({
      code: 'store-unavailable',
    });
    await store.forget('default', 'f');
    expect(store.hasRoom()).toBe(true);
    await store.close();
  });

  it('that does not say what is free is written to: the write says whether there is room', async () => {
    const space = () => {
      throw new Error('ENOENT');
    };
    const store = openSqliteEventStore({ path, log: silentLog, space });
    expect(store.hasRoom()).toBe(true);
    await store.close();
  });
});

describe('a commit for many', () => {
  it('what cannot be written fails alone; what came with it is there, and is counted', async () => {
    const store = open();
    await store.join('o', 99);
    // A lane that is new in a call that fails is not there for the next one.
    const broken = event('broken', { lane: 'default/g', name: 'g', dueAt: Number.NaN });
    const outcomes = await Promise.allSettled([
      store.enqueue([event('a')], 1),
      store.enqueue([event('b'), broken], 1),
      store.claim('nobody', [{ lane: 'default/f', limit: 1 }], 1),
      store.enqueue([event('c', { lane: 'default/g', name: 'g' })], 1),
    ]);
    expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'rejected', 'fulfilled']);
    expect(outcomes[2]).toMatchObject({ reason: { code: 'not-leader' } });
    expect((await store.lanes(1)).map(({ lane, waiting }) => [lane, waiting])).toEqual([
      ['default/f', 1],
      ['default/g', 1],
    ]);
    expect((await store.claim('o', [{ lane: 'default/g', limit: 5 }], 1)).map(({ id }) => id)).toEqual(['c']);
    await store.close();
  });

  it('two thousand calls of one turn are two commits; a call of its turn that comes meanwhile is in the next', async () => {
    const db = new DatabaseSync(path);
    db.exec('CREATE TABLE t (n INTEGER)');
    const connection = new Connection(db, path);
    let commits = 0;
    const hooks = { begin: () => {}, mark: () => {}, undo: () => {}, beforeCommit: () => void commits++ };
    const group = new GroupCommit({ db, connection, ...hooks });
    const write = (n: number) => group.write(() => Number(connection.prepare('INSERT INTO t VALUES (?) RETURNING n').get(n)?.n));
    expect(await Promise.all(Array.from({ length: 2_000 }, (_, n) => write(n)))).toEqual(Array.from({ length: 2_000 }, (_, n) => n));
    expect(commits).toBe(2);
    connection.close();
  });

  it('what waits when it is closed is written', async () => {
    const store = open();
    const written = store.enqueue([event('a')], 1);
    await store.close();
    await written;
    const again = open();
    expect(await again.get('a')).toMatchObject({ state: 'queued' });
    await again.close();
  });

  it('that fails as a whole fails for all of them, and leaves nothing', async () => {
    const store = open();
    await store.enqueue([event('before')], 1);
    const other = new DatabaseSync(path);
    other.exec(`CREATE TRIGGER full BEFORE INSERT ON events WHEN NEW.id = 'bomb' BEGIN SELECT RAISE(ROLLBACK, 'as a full disk does'); END`);
    other.close();
    const outcomes = await Promise.allSettled(['x', 'bomb', 'y'].map((id) => store.enqueue([event(id)], 1)));
    expect(outcomes.map(({ status }) => status)).toEqual(['rejected', 'rejected', 'rejected']);
    expect(await store.lanes(1)).toMatchObject([{ waiting: 1 }]);
    await store.enqueue([event('after')], 1);
    expect(await store.lanes(1)).toMatchObject([{ waiting: 2 }]);
    await store.close();
  });
});
