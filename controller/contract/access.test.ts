import { generateKeyPairSync } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { Auth } from './access.ts';

const rsa = generateKeyPairSync('rsa', { modulusLength: 2_048 });
const ec = generateKeyPairSync('ec', { namedCurve: 'P-384' });
const ed = generateKeyPairSync('ed25519');
const publicRsa = { ...rsa.publicKey.export({ format: 'jwk' }) };
const publicEc = { ...ec.publicKey.export({ format: 'jwk' }) };
const publicEd = { ...ed.publicKey.export({ format: 'jwk' }) };

const parse = (...keys: object[]) => Auth.safeParse({ type: 'jwt', issuer: 'https://id.test', audience: 'api', jwks: { keys } });
/** Where and what, or null where all is well. */
const fault = (...keys: object[]) => {
  const { error } = parse(...keys);
  return error === undefined ? null : error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`).join('\n');
};

describe('keys that are given with the function', () => {
  it.each<[string, object]>([
    ['RSA', { ...publicRsa, kid: 'a', use: 'sig', alg: 'RS256', x5c: ['MII'] }],
    ['P-256', generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey.export({ format: 'jwk' })],
    ['P-384', publicEc],
    ['P-521', generateKeyPairSync('ec', { namedCurve: 'P-521' }).publicKey.export({ format: 'jwk' })],
    ['Ed25519', publicEd],
  ])('%s: is kept as it is', (_name, key) => {
    expect(parse(key)).toMatchObject({ success: true, data: { jwks: { keys: [key] } } });
  });

  it.each<[string, object, string, string]>([
    ['a private RSA key', rsa.privateKey.export({ format: 'jwk' }), 'd', 'is secret'],
    ['a private EC key', ec.privateKey.export({ format: 'jwk' }), 'd', 'is secret'],
    ['a private Ed25519 key', ed.privateKey.export({ format: 'jwk' }), 'd', 'is secret'],
    ['a symmetric key', { kty: 'oct', k: 'c2VjcmV0' }, 'k', 'is secret'],
    ['a symmetric key without its k', { kty: 'oct' }, 'kty', 'is secret'],
    ['one prime alone', { ...publicRsa, q: 'AQAB' }, 'q', 'is secret'],
    ['no type', { a: 1 }, 'kty', 'must be RSA, EC or OKP'],
    ['an inherited name as its type', { kty: 'constructor' }, 'kty', 'must be RSA, EC or OKP'],
    ['no modulus', { kty: 'RSA', e: 'AQAB' }, 'n', '2048 bits'],
    ['a short modulus', { ...generateKeyPairSync('rsa', { modulusLength: 1_024 }).publicKey.export({ format: 'jwk' }) }, 'n', '2048 bits'],
    ['no exponent', { ...publicRsa, e: undefined }, 'e', 'base64url'],
    ['a curve that no algorithm has', { ...publicEc, crv: 'secp256k1' }, 'crv', 'P-256, P-384, P-521'],
    ['an inherited name as its curve', { ...publicEc, crv: 'toString' }, 'crv', 'P-256'],
    ['a curve of another type', { ...publicEd, crv: 'P-256' }, 'crv', 'Ed25519'],
    ['half a point', { ...publicEc, y: undefined }, 'y', '64 characters'],
    ['a coordinate that is no text', { ...publicEd, x: 7 }, 'x', '43 characters'],
  ])('%s: is refused, by its member, and not told', (_name, key, member, message) => {
    const said = fault(publicEd, key)!;
    expect(said).toMatch(new RegExp(`^jwks\\.keys\\.1\\.${member}: .*${message}`));
    expect(said).not.toContain(String(publicRsa.n).slice(0, 20));
  });

  it('none at all are refused', () => expect(fault()).toContain('jwks.keys'));
});
