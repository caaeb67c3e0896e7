/** Who may call a function: tokens of the platform, JWTs, and how often; from the CLI to the wire. */
import { generateKeyPairSync } from 'node:crypto';
import { join } from 'node:path';
import { exportJWK, SignJWT } from 'jose';
import { describe, expect, it } from 'vitest';
import type { FunctionAccessInput } from '#contract/access.ts';
import { type Answer, call } from '../helpers/http.ts';
import type { TestPlatform } from '../helpers/platform.ts';
import { usePlatform } from '../helpers/suite.ts';

const TELL = `export default (request) => Response.json({ authorization: request.headers.get('authorization') });`;

async function setAccess(platform: TestPlatform, name: string, access: FunctionAccessInput): Promise<void> {
  const answer = await call(`http://fn/v1/namespaces/default/functions/${name}/access`, {
    socketPath: join(platform.runDir, 'control', 's'),
    method: 'PUT',
    body: JSON.stringify(access),
    headers: { 'content-type': 'application/json' },
  });
  expect([answer.status, answer.status === 200 ? '' : answer.text]).toEqual([200, '']);
}

async function createToken(platform: TestPlatform, name: string, ...flags: string[]): Promise<{ id: string; token: string }> {
  const { stdout } = await platform.fnOk(['token', 'create', name, ...flags, '--json']);
  return JSON.parse(stdout) as { id: string; token: string };
}

describe('access', () => {
  const platform = usePlatform({ driver: 'process' });
  const ask = (path: string, authorization?: string): Promise<Answer> =>
    platform().call(path, { headers: authorization === undefined ? {} : { authorization } });

  it('by token: those who may come in, and no more once it is revoked', async () => {
    await platform().deploy('mine', `export const name = 'mine';\n${TELL}`);
    await setAccess(platform(), 'mine', { auth: { type: 'token' } });
    const caller = await createToken(platform(), 'caller', '--scope', 'invoke');
    const reader = await createToken(platform(), 'reader', '--scope', 'read');
    const good = await ask('/mine', `Bearer ${caller.token}`);
    expect([good.status, good.json()]).toEqual([200, { authorization: null }]);
    for (const authorization of [undefined, `Bearer ${reader.token}`, `Bearer ${caller.token}x`, `Basic ${caller.token}`]) {
      const refused = await ask('/mine', authorization);
      expect([refused.status, refused.headers['www-authenticate'], refused.json().code]).toEqual([
        401,
        'Bearer realm="fn"',
        'unauthorized',
      ]);
    }
    expect((await ask('/mine@1', undefined)).status).toBe(401);
    await platform().fnOk(['token', 'revoke', caller.id]);
    expect((await ask('/mine', `Bearer ${caller.token}`)).status).toBe(401);
  });

  it('by JWT: signed by a key of the set, for this audience, and passed on', async () => {
    const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    await platform().deploy('jwt', `export const name = 'jwt';\n${TELL}`);
    const jwks = { keys: [{ ...(await exportJWK(publicKey)), kid: 'k' }] };
    await setAccess(platform(), 'jwt', {
      auth: { type: 'jwt', issuer: 'https://id.test', audience: 'shop', jwks, claims: { role: 'admin' } },
    });
    const token = (audience: string, role: string) =>
      new SignJWT({ role })
        .setProtectedHeader({ alg: 'ES256', kid: 'k' })
        .setIssuer('https://id.test')
        .setAudience(audience)
        .setExpirationTime('5m')
        .sign(privateKey);
    const good = await token('shop', 'admin');
    expect((await ask('/jwt', `Bearer ${good}`)).json()).toEqual({ authorization: `Bearer ${good}` });
    const wrong = await ask('/jwt', `Bearer ${await token('bank', 'admin')}`);
    expect([wrong.status, wrong.headers['www-authenticate']]).toEqual([401, expect.stringContaining('error="invalid_token"')]);
    expect((await ask('/jwt', `Bearer ${await token('shop', 'user')}`)).status).toBe(401);
    expect((await ask('/jwt')).status).toBe(401);
  });

  it('as often as the rate limit says', async () => {
    await platform().deploy('rare', `export const name = 'rare';\n${TELL}`);
    await setAccess(platform(), 'rare', { rateLimit: { requestsPerSecond: 0.01, burst: 3 } });
    const statuses: number[] = [];
    for (let i = 0; i < 4; i++) statuses.push((await ask('/rare')).status);
    expect(statuses).toEqual([200, 200, 200, 429]);
    const refused = await ask('/rare');
    expect([refused.json().code, Number(refused.headers['retry-after']) > 1]).toEqual(['rate-limited', true]);
    await setAccess(platform(), 'rare', {});
    expect((await ask('/rare')).status).toBe(200);
  });
});
