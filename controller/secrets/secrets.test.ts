import { randomBytes } from 'node:crypto';
import { chmod, mkdtemp, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DEFAULT_ACCESS } from '#contract/access.ts';
import { Revision } from '#contract/function.ts';
import { MAX_SECRET_BYTES } from '#contract/tenancy.ts';
import { systemClock } from '#kit/clock.ts';
import type { FunctionRecord, SealedSecret } from '../store/types.ts';
import { ensureKey, requireKey, type SealingKey } from './key.ts';
import { open, seal } from './seal.ts';
import { SealedSecrets, type SealedSecretsOptions } from './secrets.ts';

const CANARY = 'canary-7b1f';
const of = { namespace: 'team', name: 'API_KEY', version: 3 };
const key = (): SealingKey => ({ id: randomBytes(8), bytes: randomBytes(32) });

describe('seal', () => {
  it.each(['', CANARY, 'ünïcødé ✓ 🔑\n\r\t', 'x'.repeat(65_536)])('opens to what was sealed', (value) => {
    const one = key();
    expect(open(seal(value, of, one), of, one)).toBe(value);
  });

  it('never makes the same twice, and shows nothing of the value but its length', () => {
    const one = key();
    const [first, second] = [seal(CANARY, of, one), seal(CANARY, of, one)];
    expect(Buffer.from(first).equals(Buffer.from(second))).toBe(false);
    expect(Buffer.from(first).includes(CANARY)).toBe(false);
    expect(first.length).toBe(1 + 8 + 12 + CANARY.length + 16);
  });

  it.each([
    ['another namespace', { ...of, namespace: 'other' }],
    ['another name', { ...of, name: 'OTHER' }],
    ['another version', { ...of, version: 2 }],
  ])('does not open as that of %s', (_what, other) => {
    const one = key();
    expect(() => open(seal(CANARY, of, one), other, one)).toThrow(
      expect.objectContaining({ code: 'store-unavailable', message: expect.stringContaining('altered') }),
    );
  });

  it('no byte of it may be changed', () => {
    const one = key();
    const sealed = seal(CANARY, of, one);
    for (let index = 0; index < sealed.length; index++) {
      const changed = Uint8Array.from(sealed);
      changed[index]! ^= 1;
      expect(() => open(changed, of, one)).toThrow(expect.objectContaining({ code: 'store-unavailable' }));
    }
    for (const length of [0, 1, 20, sealed.length - 1]) expect(() => open(sealed.subarray(0, length), of, one)).toThrow(/damaged|altered/);
  });

  it('another key is told by its id, not by garbage', () => {
    const [one, other] = [key(), key()];
    const id = Buffer.from(one.id).toString('hex');
    expect(() => open(seal(CANARY, of, one), of, other)).toThrow(
      expect.objectContaining({ code: 'store-unavailable', message: expect.stringContaining(`the key ${id}`) }),
    );
  });
});

let folder: string;
let keyFile: string;
let kept: Map<string, SealedSecret>;
let functions: FunctionRecord[];
let versions: number;
let changed: string[];
let secrets: SealedSecrets;

const fresh = (): SealedSecrets => {
  const store: SealedSecretsOptions['store'] = {
    reserveSecretVersion: async () => ++versions,
    putSecret: async (secret) => void kept.set(`${secret.namespace}/${secret.name}`, secret),
    getSecret: async (namespace, name) => kept.get(`${namespace}/${name}`) ?? null,
    listSecrets: async (namespace) => [...kept.values()].filter((one) => namespace === undefined || one.namespace === namespace),
    deleteSecret: async (namespace, name) => kept.delete(`${namespace}/${name}`),
    listFunctions: async (namespace) => functions.filter((record) => record.namespace === namespace),
  };
  return new SealedSecrets({ store, keyFile, clock: systemClock, onChanged: (namespace, name) => changed.push(`${namespace}/${name}`) });
};

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'fn-secrets-'));
  keyFile = join(folder, 'secret.key');
  kept = new Map();
  functions = [];
  versions = 0;
  changed = [];
  secrets = fresh();
});
afterEach(() => rm(folder, { recursive: true, force: true }));

/** A function whose revision 1 names these secrets and has no traffic, and whose revision 2 names those and has it. */
function functionWith(name: string, old: string[], current: string[]): FunctionRecord {
  const revision = (number: number, names: string[]) =>
    Revision.parse({
      key: `team/${name}@${number}`,
      namespace: 'team',
      name,
      number,
      bundle: `sha256:${'a'.repeat(64)}`,
      entry: 'index.mjs',
      settings: { concurrency: 1, egress: 'none', secrets: names },
      form: 'fetch',
      createdAt: 1,
    });
  const revisions = [revision(2, current), revision(1, old)];
  return { namespace: 'team', name, traffic: [{ revision: 2, percent: 100 }], access: DEFAULT_ACCESS, generation: 1, revisions };
}

describe('secrets', () => {
  it('are sealed in the store, and opened for who asks by name', async () => {
    await secrets.set('team', 'API_KEY', CANARY);
    await secrets.set('team', 'OTHER', 'other');
    expect(await secrets.reveal('team', ['API_KEY', 'OTHER'])).toEqual(
      new Map([
        ['API_KEY', { value: CANARY, version: 1 }],
        ['OTHER', { value: 'other', version: 2 }],
      ]),
    );
    expect(await secrets.reveal('team', [])).toEqual(new Map());
    for (const { sealed } of kept.values()) expect(Buffer.from(sealed).includes(CANARY)).toBe(false);
    expect(JSON.stringify(await secrets.list('team'))).not.toContain(CANARY);
  });

  it('have a new version with each new value, and tell whoever must know', async () => {
    expect(await secrets.set('team', 'A', 'one')).toMatchObject({ version: 1, usedBy: [] });
    expect(await secrets.set('team', 'A', 'two')).toMatchObject({ version: 2 });
    expect(changed).toEqual(['team/A', 'team/A']);
    // The same again is no change: nobody's instances are replaced for it.
    expect(await secrets.set('team', 'A', 'two')).toMatchObject({ version: 2 });
    expect(changed).toHaveLength(2);
  });

  it('that are missing are all named; none is opened', async () => {
    await secrets.set('team', 'A', CANARY);
    const asked = secrets.reveal('team', ['A', 'B', 'C']);
    await expect(asked).rejects.toMatchObject({
      code: 'secret-not-found',
      message: expect.stringMatching(/are no secrets B, C in the namespace team/),
    });
    await expect(secrets.reveal('other', ['A'])).rejects.toMatchObject({ code: 'secret-not-found' });
    await expect(secrets.get('other', 'A')).rejects.toMatchObject({ code: 'secret-not-found' });
  });

  it('tell who uses them, old revisions too', async () => {
    await secrets.set('team', 'A', 'x');
    functions = [functionWith('new', [], ['A']), functionWith('old', ['A'], []), functionWith('none', [], [])];
    expect(await secrets.get('team', 'A')).toMatchObject({ usedBy: ['new', 'old'] });
  });

  it('are not deleted while a revision with traffic names them', async () => {
    await secrets.set('team', 'A', 'x');
    functions = [functionWith('new', [], ['A'])];
    await expect(secrets.delete('team', 'A')).rejects.toMatchObject({
      code: 'conflict',
      message: expect.stringMatching(/: new\. Deploy them without it/),
    });
    expect(kept.size).toBe(1);
    functions = [functionWith('old', ['A'], [])];
    await secrets.delete('team', 'A');
    expect(kept.size).toBe(0);
    await expect(secrets.delete('team', 'A')).rejects.toMatchObject({ code: 'secret-not-found' });
  });

  it('have a size, in bytes', async () => {
    await expect(secrets.set('team', 'A', 'ü'.repeat(MAX_SECRET_BYTES / 2 + 1))).rejects.toMatchObject({
      code: 'invalid',
      options: { errors: [{ pointer: '/value' }] },
    });
    expect((await secrets.set('team', 'A', 'ü'.repeat(MAX_SECRET_BYTES / 2))).version).toBe(1);
  });
});

describe('the key', () => {
  it('is made with the first secret: 32 bytes, for its owner only, once', async () => {
    expect(await readdir(folder)).toEqual([]);
    expect(await secrets.list('team')).toEqual([]);
    expect(await readdir(folder)).toEqual([]);
    await secrets.set('team', 'A', 'x');
    expect(await readdir(folder)).toEqual(['secret.key']);
    const { size, mode } = await stat(keyFile);
    expect([size, mode & 0o777]).toEqual([32, 0o600]);
    const keys = await Promise.all(Array.from({ length: 5 }, () => ensureKey(keyFile)));
    expect(new Set(keys.map(({ bytes }) => Buffer.from(bytes).toString('hex'))).size).toBe(1);
  });

  it('is used again after a restart', async () => {
    await secrets.set('team', 'A', CANARY);
    expect((await fresh().reveal('team', ['A'])).get('A')?.value).toBe(CANARY);
  });

  it.each<[string, () => Promise<void>, RegExp]>([
    ['that is lost', () => rm(keyFile), /its? .*backup|restore it from its backup/],
    ['that others can read', () => chmod(keyFile, 0o640), /read by others/],
    ['that is cut short', () => writeFile(keyFile, 'short'), /5 bytes and not 32/],
    ['of another home', () => writeFile(keyFile, randomBytes(32)), /was sealed with the key/],
  ])('%s: an error that says what to do, and nothing is made in its place', async (_name, harm, words) => {
    await secrets.set('team', 'A', CANARY);
    expect(await secrets.fault()).toBeNull();
    await harm();
    const after = fresh();
    expect(await after.fault()).toMatch(words);
    await expect(after.reveal('team', ['A'])).rejects.toMatchObject({ code: 'store-unavailable', message: expect.stringMatching(words) });
    if (!words.test('was sealed with the key'))
      await expect(after.set('team', 'B', 'x')).rejects.toMatchObject({ code: 'store-unavailable' });
    expect(kept.size).toBe(1);
  });

  it('that was replaced: setting a secret again heals it', async () => {
    await secrets.set('team', 'A', CANARY);
    await writeFile(keyFile, randomBytes(32));
    const after = fresh();
    expect(await after.fault()).toMatch(/sealed with the key/);
    await after.set('team', 'A', CANARY);
    expect(await after.fault()).toBeNull();
    expect(await after.reveal('team', ['A'])).toEqual(new Map([['A', { value: CANARY, version: 2 }]]));
  });

  it('that is restored opens everything', async () => {
    await secrets.set('team', 'A', CANARY);
    await rename(keyFile, `${keyFile}.backup`);
    const after = fresh();
    await expect(after.reveal('team', ['A'])).rejects.toMatchObject({ code: 'store-unavailable' });
    await rename(`${keyFile}.backup`, keyFile);
    expect((await after.reveal('team', ['A'])).get('A')?.value).toBe(CANARY);
    expect(await readFile(keyFile)).toHaveLength(32);
  });

  it('that all controllers are given is made by none of them', async () => {
    await expect(requireKey(keyFile)).rejects.toMatchObject({
      code: 'store-unavailable',
      message: expect.stringMatching(/is not there: FN_SECRET_KEY_FILE/),
    });
    await ensureKey(keyFile);
    await requireKey(keyFile);
    await writeFile(keyFile, 'short');
    await expect(requireKey(keyFile)).rejects.toThrow(/5 bytes and not 32/);
  });
});
