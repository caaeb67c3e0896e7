import { readdirSync, renameSync } from 'node:fs';
import { mkdir, mkdtemp, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { systemClock, VirtualClock, type Clock } from '#kit/clock.ts';
import { silentLog } from '#kit/log.ts';
import { testAuthority, type TestCertificate } from '../../test/helpers/certificates.ts';
import { waitFor } from '../../test/helpers/wait.ts';
import { Certificates } from './certificates.ts';

const DAY_MS = 86_400_000;
const authority = testAuthority();

let folder: string;
let certificates: Certificates | null;
let changes: number;
let logged: string[];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'fn-certs-'));
  certificates = null;
  changes = 0;
  logged = [];
});
afterEach(async () => {
  await certificates?.close();
  await rm(folder, { recursive: true, force: true });
});

/** A clock whose days are shifted, as certificates see them. */
const daysLater = (days: number): Clock => ({ ...systemClock, wall: () => Date.now() + days * DAY_MS });

async function start(clock: Clock = systemClock): Promise<Certificates> {
  const log = { ...silentLog, error: (fields: object, text: string) => logged.push(`${JSON.stringify(fields)} ${text}`) };
  certificates = new Certificates({ folder, clock, log, onChange: () => (changes += 1) });
  await certificates.start();
  return certificates;
}

/** Written beside and renamed, as tools that renew do. */
async function put(name: string, { cert, key }: TestCertificate, endings: [string, string] = ['crt', 'key']): Promise<void> {
  for (const [ending, text] of [
    [endings[0], cert],
    [endings[1], key],
  ]) {
    await writeFile(join(folder, `.${name}.tmp`), text!);
    await rename(join(folder, `.${name}.tmp`), join(folder, `${name}.${ending}`));
  }
}

const names = (all: Certificates) => all.current.map((certificate) => certificate.names);

describe('certificates from a folder', () => {
  it('that are too many bytes for a message are not read; those before them stay in use', async () => {
    await put('a', authority.issue('a.example.com'));
    const all = await start();
    const { cert, key } = authority.issue('b.example.com');
    const large = cert + '\n'.repeat(250_000);
    const beside = await mkdtemp(join(tmpdir(), 'fn-certificates-'));
    for (let n = 0; n < 70; n += 1) {
      await writeFile(join(beside, `b${n}.crt`), large);
      await writeFile(join(beside, `b${n}.key`), key);
    }
    // All in one turn of the event loop: nobody reads the folder while some are still missing.
    for (const file of readdirSync(beside)) renameSync(join(beside, file), join(folder, file));
    await rm(beside, { recursive: true });
    await waitFor('a complaint', () => logged.some((text) => text.includes('is the most')));
    expect(names(all)).toEqual([['a.example.com']]);
  });

  it('are pairs of files, and folders as certbot makes them, with links', async () => {
    await put('a', authority.issue('A.example.com', '*.a.example.com'));
    await put('b', authority.issue('b.example.com'), ['pem', 'key']);
    const issued = authority.issue('c.example.com');
    await mkdir(join(folder, 'archive'));
    await mkdir(join(folder, 'c'));
    await writeFile(join(folder, 'archive', '1'), issued.cert);
    await symlink('../archive/1', join(folder, 'c', 'fullchain.pem'));
    await writeFile(join(folder, 'c', 'privkey.pem'), issued.key);
    await writeFile(join(folder, 'README'), 'not a certificate');
    const all = await start();
    expect(names(all)).toEqual([['a.example.com', '*.a.example.com'], ['b.example.com'], ['c.example.com']]);
    expect(all.current[2]).toMatchObject({ cert: issued.cert, key: issued.key });
    for (const host of ['a.example.com', 'x.a.example.com', '*.a.example.com']) expect(all.covers(host)).toBe(true);
    for (const host of ['x.y.a.example.com', 'd.example.com', '*.b.example.com']) expect(all.covers(host)).toBe(false);
    expect(logged).toEqual([]);
  });

  it('that are not good are left out, and it is said why, without the key', async () => {
    const [one, two] = [authority.issue('one.example.com'), authority.issue('two.example.com')];
    await put('mixed', { cert: one.cert, key: two.key });
    await put('garbage', { cert: 'x', key: one.key });
    await put('no-key', { cert: two.cert, key: 'x' });
    await put('nameless', authority.issue());
    await writeFile(join(folder, 'alone.crt'), one.cert);
    await put('good', one);
    expect(names(await start())).toEqual([['one.example.com']]);
    for (const why of [
      /mixed.*not that of the certificate/,
      /garbage.*not one in PEM/,
      /no-key.*key is not one/,
      /nameless.*no host/,
      /alone.*not there/,
    ])
      expect(logged.filter((line) => why.test(line))).toHaveLength(1);
    expect(logged.join()).not.toContain(one.key.split('\n')[1]);
  });

  it('are renewed without a restart; a bad one leaves the one before it in use', async () => {
    await put('site', authority.issue('site.example.com'));
    const all = await start();
    const renewed = authority.issue('site.example.com', 'www.example.com');
    await put('site', renewed);
    await waitFor('the renewed one', () => all.current[0]?.names.length === 2 && all.current[0].key === renewed.key);
    expect(changes).toBeGreaterThan(0);
    await put('site', { cert: 'rubbish', key: renewed.key });
    await waitFor('a complaint', () => logged.some((line) => line.includes('the one before it stays in use')));
    expect(all.current[0]?.cert).toBe(renewed.cert);
    await put('another', authority.issue('another.example.com'));
    await waitFor('the other one', () => all.current.length === 2);
    await Promise.all(['crt', 'key'].map((ending) => rm(join(folder, `another.${ending}`))));
    await waitFor('it is gone', () => all.current.length === 1);
  });

  it('out of their time are left out; those that soon will be are named', async () => {
    await put('site', authority.issue('site.example.com'));
    expect((await start()).notes()).toEqual([expect.stringMatching(/^The certificate site expires on \d{4}-\d\d-\d\d: /)]);
    await certificates?.close();
    for (const [days, why] of [
      [30, /expired on/],
      [-30, /not valid before/],
    ] as const) {
      expect(names(await start(daysLater(days)))).toEqual([]);
      expect(logged.at(-1)).toMatch(why);
      await certificates?.close();
    }
  });

  it('from a folder that is not there: said, and found when it comes', async () => {
    await rm(folder, { recursive: true });
    const clock = new VirtualClock(Date.now());
    const all = await start(clock);
    expect(all.current).toEqual([]);
    expect(logged.join()).toMatch(/cannot be read/);
    await mkdir(folder);
    await put('site', authority.issue('site.example.com'));
    clock.advance(30_000);
    await waitFor('the certificate', () => all.current.length === 1 && changes === 1);
  });

  it('are none where no folder is named', async () => {
    certificates = new Certificates({ folder: null, clock: systemClock, log: silentLog, onChange: () => {} });
    await certificates.start();
    expect(certificates.current).toEqual([]);
    expect(certificates.notes()).toEqual([]);
  });
});
