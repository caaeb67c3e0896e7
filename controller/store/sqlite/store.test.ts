/** What only SQLite can do wrong: files, modes, schema versions, damage. The port is tested in test/conformance. */
import { mkdtemp, rm, stat, writeFile, mkdir, chmod, truncate, open as openFile, readdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { FnError } from '#contract/errors.ts';
import { Revision } from '#contract/function.ts';
import { type Log, silentLog } from '#kit/log.ts';
import { isConstraint, storeError } from './errors.ts';
import { APPLICATION_ID, MIGRATIONS, migrate, scalar } from './schema.ts';
import { openSqliteStore } from './store.ts';

let folder: string;
let path: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'fn-sqlite-'));
  path = join(folder, 'fn.db');
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const open = (log: Log = silentLog) => openSqliteStore({ path, log });

const ALL = { traffic: [{ revision: 1, percent: 100 }] };

function revision(name: string): Revision {
  return Revision.parse({
    key: `default/${name}@1`,
    namespace: 'default',
    name,
    number: 1,
    bundle: `sha256:${'a'.repeat(64)}`,
    entry: 'index.mjs',
    settings: { concurrency: 1, egress: 'none' },
    form: 'lambda',
    createdAt: 1,
  });
}

function refusal(run: () => unknown): FnError {
  try {
    run();
  } catch (error) {
    if (error instanceof FnError) return error;
    throw error;
  }
  throw new Error('it was not refused');
}

describe('the file', () => {
  it('and its companions can be read by nobody else, whatever the umask and an earlier mode', async () => {
    await writeFile(path, '', { mode: 0o644 });
    await chmod(path, 0o644);
    const store = open();
    await store.raiseTerm();
    for (const file of await readdir(folder)) expect([file, (await stat(join(folder, file))).mode & 0o777]).toEqual([file, 0o600]);
    expect((await readdir(folder)).toSorted()).toEqual(['fn.db', 'fn.db-shm', 'fn.db-wal']);
    await store.close();
  });

  it('uses WAL, so that readers never wait for a writer', async () => {
    const store = open();
    const other = new DatabaseSync(path);
    expect(other.prepare('PRAGMA journal_mode').get()).toEqual({ journal_mode: 'wal' });
    other.close();
    await store.close();
  });

  it.each([
    [
      'not a database',
      async () => writeFile(path, 'this is not a database, but it is long enough to be looked at'.repeat(100)),
      /not a database.*restore/s,
    ],
    ['a folder', async () => mkdir(path), /owner and mode/],
    ['in a folder that is not there', async () => rm(folder, { recursive: true }), /owner and mode/],
  ])('%s: refused, and says what to do', async (_name, prepare, words) => {
    await prepare();
    const error = refusal(open);
    expect(error.code).toBe('store-unavailable');
    expect(error.message).toMatch(words);
    expect(error.message).toContain(path);
  });

  it('damaged in the middle: refused when it is opened', async () => {
    const store = open();
    for (let index = 0; index < 200; index++) await store.commitRevision(revision(`f-${index}`), ALL);
    await store.close();
    const { size } = await stat(path);
    const file = await openFile(path, 'r+');
    await file.write(Buffer.alloc(size - 8_192, 0xa5), 0, size - 8_192, 8_192);
    await file.close();
    expect(refusal(open).message).toMatch(/damaged|malformed/);
  });

  it('cut short: refused when it is opened', async () => {
    const store = open();
    for (let index = 0; index < 200; index++) await store.commitRevision(revision(`f-${index}`), ALL);
    await store.close();
    await truncate(path, 10_000);
    expect(refusal(open).code).toBe('store-unavailable');
  });
});

describe('the schema', () => {
  it('marks the file as ours, at the newest version', async () => {
    await open().close();
    const db = new DatabaseSync(path);
    expect(scalar(db, 'PRAGMA application_id')).toBe(APPLICATION_ID);
    expect(scalar(db, 'PRAGMA user_version')).toBe(MIGRATIONS.length);
    db.close();
  });

  it('refuses a newer one, and leaves it as it was', async () => {
    await open().close();
    const db = new DatabaseSync(path);
    db.exec('PRAGMA user_version = 99');
    db.close();
    expect(refusal(open).message).toMatch(/schema 99.*newer fn/);
    const after = new DatabaseSync(path);
    expect(scalar(after, 'PRAGMA user_version')).toBe(99);
    after.close();
  });

  it("refuses another program's database", () => {
    const db = new DatabaseSync(path);
    db.exec('CREATE TABLE theirs (a)');
    db.close();
    expect(refusal(open).message).toContain('another program');
  });

  it('makes of a function that was routed to one revision one with all of its traffic for that', async () => {
    const db = new DatabaseSync(path);
    migrate(db, path, MIGRATIONS.slice(0, 1));
    for (const number of [1, 2]) {
      const body = JSON.stringify({ ...revision('old'), number, key: `default/old@${number}` });
      db.prepare('INSERT INTO revisions VALUES (?, ?, ?, ?, ?)').run('default', 'old', number, `sha256:${'a'.repeat(64)}`, body);
    }
    db.prepare('INSERT INTO functions VALUES (?, ?, ?)').run('default', 'old', 2);
    db.close();
    const store = open();
    const record = await store.getFunction('default', 'old');
    expect(record).toMatchObject({ traffic: [{ revision: 2, percent: 100 }], generation: 1, access: { auth: { type: 'public' } } });
    expect(record?.revisions.map(({ number }) => number)).toEqual([2, 1]);
    await store.close();
  });

  it('is brought forward step by step, and a step that fails leaves the one before it', () => {
    const db = new DatabaseSync(':memory:');
    const steps = ['CREATE TABLE one (a)', 'ALTER TABLE one ADD COLUMN b'];
    migrate(db, 'x', steps.slice(0, 1));
    db.exec('INSERT INTO one VALUES (1)');
    expect(() => migrate(db, 'x', [...steps, 'CREATE TABLE two (a); nonsense'])).toThrow(/nonsense/);
    expect(scalar(db, 'PRAGMA user_version')).toBe(2);
    expect(db.prepare('SELECT * FROM one').all()).toEqual([{ a: 1, b: null }]);
    expect(scalar(db, `SELECT count(*) FROM sqlite_schema WHERE name = 'two'`)).toBe(0);
    db.close();
  });
});

describe('a row that cannot be read', () => {
  it.each([
    ['not JSON', '{'],
    ['of another shape', '{"key":"default/bad@1"}'],
    ['of another function', JSON.stringify(revision('good'))],
  ])('%s: is named, logged, and hides no other', async (_name, body) => {
    const lines: object[] = [];
    const store = open({ ...silentLog, error: (fields) => lines.push(fields) });
    await store.commitRevision(revision('good'), ALL);
    await store.commitRevision(revision('bad'), ALL);
    const db = new DatabaseSync(path);
    db.prepare(`UPDATE revisions SET body = ? WHERE name = 'bad'`).run(body);
    db.close();

    expect((await store.listFunctions()).map(({ name }) => name)).toEqual(['good']);
    expect(lines).toEqual([expect.objectContaining({ function: 'default/bad', err: expect.stringContaining('default/bad@1') })]);
    await expect(store.getFunction('default', 'bad')).rejects.toThrow(/default\/bad@1 cannot be read/);
    // Its bundle is still protected, and it can still be removed.
    expect((await store.bundlesInUse()).size).toBe(1);
    expect(await store.deleteFunction('default', 'bad')).toBe(true);
    await store.close();
  });
});

describe('a revision that cannot be read', () => {
  it('and has no traffic is left out and logged; its function is served, and cannot be routed to it', async () => {
    const lines: object[] = [];
    const store = open({ ...silentLog, error: (fields) => lines.push(fields) });
    await store.commitRevision(revision('old'), ALL);
    await store.commitRevision({ ...revision('old'), number: 2, key: 'default/old@2' }, { traffic: [{ revision: 2, percent: 100 }] });
    const db = new DatabaseSync(path);
    db.prepare(`UPDATE revisions SET body = '{' WHERE number = 1`).run();
    db.close();
    expect((await store.listFunctions()).map((record) => record.revisions.map(({ number }) => number))).toEqual([[2]]);
    expect(lines).toEqual([expect.objectContaining({ function: 'default/old', err: expect.stringContaining('default/old@1') })]);
    await expect(store.changeFunction('default', 'old', ALL)).rejects.toMatchObject({ code: 'store-unavailable' });
    expect((await store.getFunction('default', 'old'))?.traffic).toEqual([{ revision: 2, percent: 100 }]);
    expect(await store.removeRevisions('default', 'old', [1])).toEqual([1]);
    await store.close();
  });
});

describe('errors', () => {
  it('a lock that another process holds: store-unavailable with Retry-After, and it works after', async () => {
    const store = open();
    const other = new DatabaseSync(path);
    other.exec('BEGIN IMMEDIATE');
    await expect(store.raiseTerm()).rejects.toMatchObject({
      code: 'store-unavailable',
      options: { retryAfterSeconds: 5 },
      message: expect.stringContaining('another process'),
    });
    other.exec('ROLLBACK');
    other.close();
    expect(await store.raiseTerm()).toBe(1);
    await store.close();
  });

  it('a full disk: store-unavailable, and nothing half-written', async () => {
    const db = new DatabaseSync(':memory:');
    migrate(db, 'x');
    db.exec(`PRAGMA max_page_count = ${scalar(db, 'PRAGMA page_count')}`);
    const error = (() => {
      try {
        db.prepare(`INSERT INTO meta VALUES ('a', ?)`).run('x'.repeat(1_000_000));
      } catch (caught) {
        return storeError(caught, '/home/fn.db');
      }
    })();
    expect(error).toBeInstanceOf(FnError);
    expect((error as FnError).message).toMatch(/disk is full: free some space/);
    db.close();
  });

  it('our own mistakes are not taken for the disk', () => {
    const mistake = new TypeError('x');
    expect(storeError(mistake, path)).toBe(mistake);
    expect(isConstraint(mistake)).toBe(false);
  });
});
