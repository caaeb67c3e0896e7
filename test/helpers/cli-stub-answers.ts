/** What the stub API answers where it keeps nothing itself: an example of each view. */
import type { CallRecord, Why } from '#contract/call.ts';
import type { FunctionStats, ResourceStats, StatsList, UsageStats } from '#contract/stats.ts';
import type { AuditEntry, NamespaceView, SecretView, TokenView, WhoAmI } from '#contract/tenancy.ts';
import type { EventBacklog } from '#contract/events.ts';
import { Trigger, type TriggerView } from '#contract/trigger.ts';
import type { StubApi } from './cli-stub-api.ts';
import { exampleDeadLetter, exampleInvocation, statusOfTrigger } from './fake-events.ts';

const AT = Date.UTC(2026, 0, 1, 12);
const HELLO = '/v1/namespaces/default/functions/hello';
export const REQUEST_ID = 'k3v9x0q2ab-1f';
export const EVENT_ID = 'e-k3v9x0q2abk3v9x0q2abk3v9';
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

const pool: ResourceStats = { cpuSeconds: 4.21, memoryReservedGibSeconds: 8_123, memoryUsedGibSeconds: 2_612.5 };
const used: UsageStats = {
  cpuSeconds: 12.345678,
  memoryReservedGibSeconds: 96,
  memoryUsedGibSeconds: 31.25,
  memoryPeakBytes: 61_865_984,
  invocations: 1_204,
  errors: 3,
  rejected: 1,
  coldStarts: { pooled: 7, full: 1 },
  instancesStarted: 9,
  duration: { sumSeconds: 14.2, p50Ms: 3.1, p95Ms: 40.25, p99Ms: 250 },
};
const functionStats: FunctionStats = {
  namespace: 'default',
  name: 'hello',
  since: AT,
  deletedAt: null,
  ...used,
  revisions: [{ number: 1, ...used }],
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

const orders = Trigger.parse({
  type: 'redis-stream',
  name: 'orders',
  url: 'redis://:${secret:REDIS}@redis.example.com',
  stream: 'orders',
  batchSize: 10,
});
const daily = Trigger.parse({ type: 'cron', name: 'daily', schedule: '0 7 * * *', timezone: 'Europe/Berlin', enabled: false });
const failing: TriggerView = {
  namespace: 'default',
  function: 'hello',
  trigger: orders,
  status: statusOfTrigger(orders, {
    state: 'failing',
    detail: 'connect ECONNREFUSED redis.example.com:6379',
    lag: null,
    succeeded: 7,
    failed: 2,
  }),
  url: null,
};
const paused: TriggerView = { ...failing, trigger: daily, status: statusOfTrigger(daily, { lag: null, nextAt: null, concurrency: 0 }) };
const backlog: EventBacklog = { waiting: 3, running: 1, dead: 2, oldestAt: AT };
// Kept far beyond what a test lives: ages are told from now.
const KEPT = { expiresAt: AT + 1e12, keptUntil: AT + 1e12 };
const invocation = exampleInvocation(EVENT_ID, KEPT);
const retrying = exampleInvocation('e-bbbbbbbbbbbbbbbbbbbbbbbb', {
  ...KEPT,
  state: 'retrying',
  finishedAt: null,
  result: null,
  attempts: 2,
  error: { code: 'function-error', detail: 'it threw', status: 500 },
});
const { headers: _headers, body: _body, ...deadView } = exampleDeadLetter(EVENT_ID, { keptUntil: AT + 1e12 });

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
    'GET /v1/stats': { source: 'cgroup', functions: [functionStats], pool } satisfies StatsList,
    [`GET ${HELLO}/stats`]: functionStats,
    'GET /v1/namespaces/default/triggers': { triggers: [failing, paused] },
    [`GET ${HELLO}/triggers`]: { triggers: [failing, paused] },
    [`GET ${HELLO}/triggers/orders`]: failing,
    [`PUT ${HELLO}/triggers/cron`]: paused,
    [`PATCH ${HELLO}/triggers/orders`]: failing,
    [`GET ${HELLO}/backlog`]: backlog,
    [`GET ${HELLO}/invocations`]: { invocations: [retrying, invocation] },
    [`GET ${HELLO}/invocations/${EVENT_ID}`]: invocation,
    [`DELETE ${HELLO}/invocations/${EVENT_ID}`]: exampleInvocation(EVENT_ID, { ...KEPT, state: 'cancelled', result: null }),
    [`GET ${HELLO}/invocations/${EVENT_ID}/result`]: { status: 200, headers: [], body: Buffer.from('hello').toString('base64') },
    [`GET ${HELLO}/dead-letters`]: { deadLetters: [deadView], total: 2 },
    [`GET ${HELLO}/dead-letters/${EVENT_ID}`]: exampleDeadLetter(EVENT_ID, { keptUntil: AT + 1e12 }),
    [`POST ${HELLO}/dead-letters/redrive`]: { count: 2 },
    [`POST ${HELLO}/dead-letters/purge`]: { count: 1 },
    [`GET /v1/namespaces/default/calls/${REQUEST_ID}`]: why,
  };
  for (const [path, json] of Object.entries(answers)) canned.set(path, { status: 200, json });
  for (const path of ['/v1/namespaces/default/secrets/API_KEY', '/v1/namespaces/shop', `${HELLO}/triggers/orders`])
    canned.set(`DELETE ${path}`, { status: 204 });
}
