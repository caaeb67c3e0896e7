import { createHmac, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { CompactSign, exportJWK, type JWTPayload, SignJWT } from 'jose';
import { describe, expect, it } from 'vitest';
import type { Auth } from '#contract/access.ts';
import { VirtualClock } from '#kit/clock.ts';
import { silentLog } from '#kit/log.ts';
import { InvalidToken, JwtChecks } from './jwt.ts';
import { COOLDOWN_MS, FRESH_MS, KeysUnavailable, KeyStore, RETRY_MS, STALE_MS } from './keys.ts';

type JwtAuth = Extract<Auth, { type: 'jwt' }>;

const rsa = generateKeyPairSync('rsa', { modulusLength: 2_048 });
const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const ed = generateKeyPairSync('ed25519');
const other = generateKeyPairSync('rsa', { modulusLength: 2_048 });

const jwk = async (key: KeyObject, kid?: string) => ({ ...(await exportJWK(key)), ...(kid === undefined ? {} : { kid }) });
const JWKS = { keys: [await jwk(rsa.publicKey, 'r'), await jwk(ec.publicKey, 'e'), await jwk(ed.publicKey, 'd')] };

const AUTH: JwtAuth = { type: 'jwt', issuer: 'https://id.test', audience: ['api', 'api2'], jwks: JWKS, claims: {} };
const NOW = Date.UTC(2026, 0, 1) / 1_000;
const GOOD: JWTPayload = { iss: 'https://id.test', aud: 'api', exp: NOW + 300, sub: 'alice' };

const signed = (
  payload: JWTPayload,
  { alg = 'RS256', kid = 'r', key = rsa.privateKey }: { alg?: string; kid?: string | undefined; key?: KeyObject } = {},
) => new SignJWT(payload).setProtectedHeader({ alg, ...(kid === '' ? {} : { kid }) }).sign(key);

const base64url = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');

function checks(fetch: (url: string) => Promise<string> = () => Promise.reject(new Error('nothing is to be fetched'))) {
  const clock = new VirtualClock();
  return { clock, jwt: new JwtChecks(clock, new KeyStore({ clock, log: silentLog, fetch })) };
}

/** What comes of a token: the caller's id, or the message. */
async function outcome(token: string, auth: JwtAuth = AUTH, all = checks()): Promise<string> {
  try {
    return (await all.jwt.of(auth).verify(token)).id;
  } catch (error) {
    if (error instanceof InvalidToken || error instanceof KeysUnavailable) return `${error.constructor.name}: ${error.message}`;
    throw error;
  }
}

describe('a good token', () => {
  it.each<[string, string, KeyObject]>([
    ['RS256', 'r', rsa.privateKey],
    ['RS512', 'r', rsa.privateKey],
    ['PS256', 'r', rsa.privateKey],
    ['ES256', 'e', ec.privateKey],
    ['EdDSA', 'd', ed.privateKey],
  ])('by %s', async (alg, kid, key) => expect(await outcome(await signed(GOOD, { alg, kid, key }))).toBe('jwt:https://id.test:alice'));

  it.each<[string, JWTPayload]>([
    ['one of the audiences', { ...GOOD, aud: ['x', 'api2'] }],
    ['expired within the leeway', { ...GOOD, exp: NOW - 59 }],
    ['valid from within the leeway', { ...GOOD, nbf: NOW + 59 }],
  ])('%s', async (_name, payload) => expect(await outcome(await signed(payload))).toBe('jwt:https://id.test:alice'));

  it('without a subject is a caller of its own', async () => {
    const [one, two] = [await signed({ ...GOOD, sub: undefined }), await signed({ ...GOOD, sub: undefined, jti: '2' })];
    expect(await outcome(one)).toMatch(/^jwt:[\w-]{43}$/);
    expect(await outcome(one)).not.toBe(await outcome(two));
  });

  it('with a long subject is a caller with a short name: it is kept for each that is counted', async () => {
    const [one, two] = ['x'.repeat(5_000), `${'x'.repeat(5_000)}y`].map((sub) => signed({ ...GOOD, sub }));
    expect(await outcome(await one!)).toMatch(/^jwt:[\w-]{43}$/);
    expect(await outcome(await one!)).not.toBe(await outcome(await two!));
  });

  it('that names no key is tried with each that fits', async () => {
    const auth = { ...AUTH, jwks: { keys: [await jwk(other.publicKey, 'o'), await jwk(rsa.publicKey, 'r')] } };
    expect(await outcome(await signed(GOOD, { kid: '' }), auth)).toBe('jwt:https://id.test:alice');
    const third = generateKeyPairSync('rsa', { modulusLength: 2_048 }).privateKey;
    expect(await outcome(await signed(GOOD, { kid: '', key: third }), auth)).toBe('InvalidToken: the signature of the token is wrong');
  });

  it('is found good again without its signature, until it expires', async () => {
    const all = checks();
    const token = await signed({ ...GOOD, exp: NOW + 10 });
    const verifier = all.jwt.of(AUTH);
    expect(verifier.verify(token)).toBeInstanceOf(Promise);
    await verifier.verify(token);
    expect(verifier.verify(token)).toEqual({ id: 'jwt:https://id.test:alice' });
    // What another function found good is nothing to this one.
    expect(await outcome(token, { ...AUTH, audience: 'elsewhere' }, all)).toBe('InvalidToken: the claim aud is not what it must be');
    all.clock.jumpWall(71_000);
    expect(await outcome(token, AUTH, all)).toBe('InvalidToken: the token has expired');
  });
});

describe('a bad token', () => {
  const none = `${base64url({ alg: 'none' })}.${base64url(GOOD)}.`;
  const publicPem = rsa.publicKey.export({ type: 'spki', format: 'pem' });
  const confused = (secret: string | Buffer): string => {
    const head = `${base64url({ alg: 'HS256', kid: 'r' })}.${base64url(GOOD)}`;
    return `${head}.${createHmac('sha256', secret).update(head).digest('base64url')}`;
  };
  it.each<[string, () => string | Promise<string>, string]>([
    ['alg none', () => none, 'the algorithm of the token is not taken'],
    ['HS256 with the public key as the secret', () => confused(publicPem), 'the algorithm of the token is not taken'],
    [
      'HS256 with the modulus as the secret',
      () => confused(Buffer.from(String(JWKS.keys[0]!.n), 'base64url')),
      'the algorithm of the token is not taken',
    ],
    ['expired', () => signed({ ...GOOD, exp: NOW - 61 }), 'the token has expired'],
    ['not valid yet', () => signed({ ...GOOD, nbf: NOW + 61 }), 'the claim nbf is not what it must be'],
    ['without an end', () => signed({ ...GOOD, exp: undefined }), 'the token has no exp'],
    [
      'an end that is text',
      () =>
        new CompactSign(Buffer.from(JSON.stringify({ ...GOOD, exp: '9999999999' })))
          .setProtectedHeader({ alg: 'RS256', kid: 'r' })
          .sign(rsa.privateKey),
      'the claim exp is not what it must be',
    ],
    ['another issuer', () => signed({ ...GOOD, iss: 'https://id.test/' }), 'the claim iss is not what it must be'],
    ['no issuer', () => signed({ ...GOOD, iss: undefined }), 'the token has no iss'],
    ['another audience', () => signed({ ...GOOD, aud: 'apix' }), 'the claim aud is not what it must be'],
    ['no audience', () => signed({ ...GOOD, aud: undefined }), 'the token has no aud'],
    ['signed by another', () => signed(GOOD, { key: other.privateKey }), 'the signature of the token is wrong'],
    ['a key that nobody has', () => signed(GOOD, { kid: 'unknown' }), 'no key of the set fits the token'],
    ['a key of another algorithm', () => signed(GOOD, { kid: 'e' }), 'no key of the set fits the token'],
    [
      'changed after it was signed',
      async () => (await signed(GOOD)).replace(/\.[^.]+\./, `.${base64url({ ...GOOD, sub: 'root' })}.`),
      'the signature of the token is wrong',
    ],
    [
      'its own key in its head',
      async () => new SignJWT(GOOD).setProtectedHeader({ alg: 'RS256', jwk: await exportJWK(other.publicKey) }).sign(other.privateKey),
      'the signature of the token is wrong',
    ],
    [
      'a place for keys in its head',
      () => new SignJWT(GOOD).setProtectedHeader({ alg: 'RS256', kid: 'r', jku: 'https://evil.test' }).sign(other.privateKey),
      'the signature of the token is wrong',
    ],
    [
      'a critical extension',
      () => `${base64url({ alg: 'RS256', kid: 'r', crit: ['x'], x: 1 })}.${base64url(GOOD)}.AAAA`,
      'this is no token that can be read',
    ],
    ['no JSON', () => 'a.b.c', 'this is no token that can be read'],
    ['two parts', () => 'a.b', 'this is no token that can be read'],
    ['encrypted', () => 'a.b.c.d.e', 'this is no token that can be read'],
    ['huge', () => `${base64url({ alg: 'RS256' })}.${'A'.repeat(12_000)}.AAAA`, 'the signature of the token is wrong'],
    ['no object', () => `${base64url({ alg: 'RS256', kid: 'r' })}.${base64url([1])}.AAAA`, 'the signature of the token is wrong'],
  ])('%s', async (_name, token, message) => expect(await outcome(await token())).toBe(`InvalidToken: ${message}`));

  it.each<[JwtAuth['claims'], JWTPayload, boolean]>([
    [{ role: 'admin' }, { role: 'admin' }, true],
    [{ role: 'admin' }, { role: ['user', 'admin'] }, true],
    [{ role: 'admin', tier: 3, ok: true }, { role: 'admin', tier: 3, ok: true }, true],
    [{ role: 'admin' }, { role: 'administrator' }, false],
    [{ role: 'admin' }, {}, false],
    [{ tier: 3 }, { tier: '3' }, false],
    [{ ok: true }, { ok: 'true' }, false],
    [{ role: 'admin' }, { role: { admin: true } }, false],
    [{ toString: 'x' }, {}, false],
  ])('claims %j against %j: %s', async (claims, payload, good) => {
    const result = await outcome(await signed({ ...GOOD, ...payload }), { ...AUTH, claims });
    expect(result).toBe(good ? 'jwt:https://id.test:alice' : `InvalidToken: the claim ${Object.keys(claims).at(0)} is not what it must be`);
  });
});

describe('keys by URL', () => {
  const REMOTE: JwtAuth = { type: 'jwt', issuer: 'https://id.test', audience: 'api', claims: {} };
  const document = async (...keys: [KeyObject, string][]): Promise<string> =>
    JSON.stringify({ keys: await Promise.all(keys.map(([key, kid]) => jwk(key, kid))) });

  /** A server of keys that can be changed and taken away. */
  async function server() {
    const state = { body: await document([rsa.publicKey, 'r']), up: true, urls: [] as string[] };
    const all = checks((url) => {
      state.urls.push(url);
      return state.up ? Promise.resolve(state.body) : Promise.reject(new Error('nobody is there'));
    });
    return { state, all };
  }
  const ALICE = 'jwt:https://id.test:alice';

  it('are looked for at the issuer, fetched once for all who come at once', async () => {
    const { state, all } = await server();
    const token = await signed(GOOD);
    expect(await Promise.all(Array.from({ length: 20 }, () => outcome(token, REMOTE, all)))).toEqual(Array(20).fill(ALICE));
    expect(await outcome(token, { ...REMOTE, audience: ['api'], issuer: 'https://id.test' }, all)).toBe(ALICE);
    expect(state.urls).toEqual(['https://id.test/.well-known/jwks.json']);
  });

  it('that cannot be had let nobody in, say so, and are not asked for at every call', async () => {
    const { state, all } = await server();
    state.up = false;
    const token = await signed(GOOD);
    const away = 'KeysUnavailable: the keys at https://id.test/.well-known/jwks.json cannot be had: nobody is there';
    for (let i = 0; i < 5; i++) expect(await outcome(token, REMOTE, all)).toBe(away);
    expect(state.urls.length).toBe(1);
    all.clock.advance(RETRY_MS);
    state.up = true;
    expect(await outcome(token, REMOTE, all)).toBe(ALICE);
  });

  it('stay with the function that uses them, however many others there are', async () => {
    const { state, all } = await server();
    const token = await signed(GOOD);
    expect(await outcome(token, REMOTE, all)).toBe(ALICE);
    for (let i = 0; i < 1_000; i++) await outcome(token, { ...REMOTE, jwksUrl: `https://other-${i}.test/` }, all);
    state.urls.length = 0;
    expect(await outcome(token, REMOTE, all)).toBe(ALICE);
    expect(state.urls).toEqual([]);
  });

  it('serve on while their server is away, for a day', async () => {
    const { state, all } = await server();
    const token = await signed({ ...GOOD, exp: NOW + 1_000_000 });
    expect(await outcome(token, REMOTE, all)).toBe(ALICE);
    state.up = false;
    all.clock.advance(FRESH_MS + 1);
    for (let i = 0; i < 5; i++) expect(await outcome(token, REMOTE, all)).toBe(ALICE);
    expect(state.urls.length).toBe(2);
    all.clock.advance(STALE_MS - FRESH_MS);
    expect(await outcome(token, REMOTE, all)).toMatch(/^KeysUnavailable/);
  });

  it('are fetched again for a key that is new, at most once in a while', async () => {
    const { state, all } = await server();
    expect(await outcome(await signed(GOOD), REMOTE, all)).toBe(ALICE);
    state.body = await document([other.publicKey, 'new']);
    const rotated = await signed(GOOD, { kid: 'new', key: other.privateKey });
    for (let i = 0; i < 5; i++) expect(await outcome(rotated, REMOTE, all)).toBe('InvalidToken: no key of the set fits the token');
    expect(state.urls.length).toBe(1);
    all.clock.advance(COOLDOWN_MS);
    expect(await outcome(rotated, REMOTE, all)).toBe(ALICE);
    // What was signed by a key that was withdrawn is good no more, though it was found good before.
    expect(await outcome(await signed(GOOD), REMOTE, all)).toMatch(/^InvalidToken/);
    expect(state.urls.length).toBe(2);
  });

  it.each([
    '',
    '[]',
    '{"keys":{}}',
    '{"keys":[1]}',
    '<html>',
    JSON.stringify({ keys: Array.from({ length: 101 }, () => ({ kty: 'RSA' })) }),
  ])('document %.40s is none', async (body) => {
    const { state, all } = await server();
    state.body = body;
    expect(await outcome(await signed(GOOD), REMOTE, all)).toMatch(/^KeysUnavailable/);
  });

  it('of which the first has no type, given with the function: nobody gets in', async () => {
    expect(await outcome(await signed(GOOD), { ...AUTH, jwks: { keys: [{ n: 'x' }] } })).toBe(
      'InvalidToken: no key of the set fits the token',
    );
  });

  it('of which some are none, given with the function: the others count', async () => {
    const jwks = { keys: [{ n: 'x' }, await jwk(rsa.publicKey, 'r')] };
    expect(await outcome(await signed(GOOD), { ...AUTH, jwks })).toBe(ALICE);
  });
});
