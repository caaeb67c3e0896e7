/** What the stub API answers where it keeps nothing itself: an example of each view. */
import type { CallRecord, Why } from '#contract/call.ts';
import type { AuditEntry, NamespaceView, SecretView, TokenView, WhoAmI } from '#contract/tenancy.ts';
import type { StubApi } from './cli-stub-api.ts';

const AT = Date.UTC(2026, 0, 1, 12);
export const REQUEST_ID = 'k3v9x0q2ab-1f';
export const TOKEN_ID = 't-k3v9x0q2ab1f';

const call: CallRecord = {
  id: REQUEST_ID,
  t: AT,
  gateway: 'g',
  namespace: 'default',
  name: 'hello',
  revision: 'default/hello@1',
  instance: 'i-abcdefghijkl',
  method: 'GET',
  path: '/hello',
  status: 500,
  totalMs: 315.2,
  start: { kind: 'full', startMs: 250, initMs: 40, reason: 'scaled-to-zero' },
};

const why: Why = {
  call,
  phases: [
    { name: 'start', ms: 250, note: 'an instance was created' },
    { name: 'handler', ms: 15 },
  ],
  temperature: 'cold, full: an instance was created, as none was running',
  fault: 'function',
  summary: 'hello@1 answered with 500 by itself after 315 ms',
  advice: ['It failed at handler.ts:3:9.'],
  instance: { id: 'i-abcdefghijkl', notes: [] },
  logs: [],
  dropped: 0,
  others: 0,
};

const who: WhoAmI = { id: 'owner', name: 'owner', scopes: ['admin'], namespaces: '*', version: '0.1.0' };
const secret: SecretView = { namespace: 'default', name: 'API_KEY', version: 2, updatedAt: AT, usedBy: ['hello'] };
const token: TokenView = {
  id: TOKEN_ID,
  name: 'ci',
  scopes: ['deploy'],
  namespaces: ['shop'],
  createdAt: AT,
  expiresAt: null,
  revokedAt: null,
};
const namespace: NamespaceView = {
  name: 'shop',
  quota: { functions: 20, memoryMib: null, concurrency: null, requestsPerSecond: 5.5, bundleBytes: 1_000 },
  hosts: ['shop.example.com'],
  networks: null,
  usage: { functions: 1, memoryMib: 128 },
};
const entry: AuditEntry = {
  id: 1,
  t: AT,
  by: { id: TOKEN_ID, name: 'ci' },
  action: 'function.deploy',
  namespace: 'shop',
  subject: 'cart',
  request: 'r-1',
  outcome: 'ok',
  detail: {},
};

/** Gives the stub an answer for every path that it does not know by itself. */
export function cannedAnswers({ canned }: StubApi): void {
  const answers: Readonly<Record<string, unknown>> = {
    'GET /v1/whoami': who,
    'GET /v1/namespaces/default/secrets': { secrets: [secret] },
    'PUT /v1/namespaces/default/secrets/API_KEY': { ...secret, version: secret.version + 1 },
    'GET /v1/tokens': { tokens: [token] },
    'POST /v1/tokens': { ...token, token: `fn_k3v9x0q2ab1f_${'a'.repeat(43)}` },
    [`DELETE /v1/tokens/${TOKEN_ID}`]: token,
    'GET /v1/namespaces': { namespaces: [namespace] },
    'GET /v1/namespaces/shop': namespace,
    'PUT /v1/namespaces/shop': namespace,
    'GET /v1/audit': { entries: [entry] },
    'GET /v1/namespaces/default/functions/hello/calls': { calls: [call] },
    [`GET /v1/namespaces/default/calls/${REQUEST_ID}`]: why,
  };
  for (const [path, json] of Object.entries(answers)) canned.set(path, { status: 200, json });
  for (const path of ['/v1/namespaces/default/secrets/API_KEY', '/v1/namespaces/shop']) canned.set(`DELETE ${path}`, { status: 204 });
}
