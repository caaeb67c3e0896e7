/** Every operation of the API: who may, and what it is asked about where it is there and where it is not. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import type { Scope } from '#contract/tenancy.ts';

interface Operation {
  operationId: string;
  'x-access': { scope: Scope | null; namespace: 'path' | 'platform' | 'filtered' };
}
const document = JSON.parse(readFileSync(join(import.meta.dirname, '../../docs/openapi.json'), 'utf8')) as {
  paths: Record<string, Record<string, Operation>>;
};

/** Names of one length: then even the lengths of answers must be equal. */
export const MINE = 'myself';
export const THEIRS = 'theirs';
export const NOBODY = 'nobody';
export const IMAGE = `sha256:${'1'.repeat(64)}`;
const eventId = (digit: string): string => `e-${digit.repeat(24)}`;
export const ABSENT_DIGEST = `sha256:${'0'.repeat(64)}`;

/** What is there in both namespaces. What is made anew for the tests they write here. */
export const there = {
  name: 'hello',
  digest: '',
  /** Bytes of the digest. */
  bundle: Buffer.alloc(0) as Buffer,
  id: 'call-1',
  image: IMAGE,
  secret: 'KEY',
  token: '',
  trigger: 'ticks',
  event: eventId('1'),
  dead: eventId('2'),
};

interface Case {
  /** Who may: the least scope, and whether it must be one for all namespaces. Written down here a second time, on purpose. */
  scope: Scope | null;
  platform?: boolean;
  /** Parameters of the path, beside the namespace, of something that is there; and of what is not. */
  params?: () => Record<string, string>;
  absentParams?: Record<string, string>;
  body?: () => { type: string; data: string | Buffer };
  /** Code that tells that it is not there. */
  absent?: string;
  /** It makes what is not there, or lists it: in a namespace of one's own there is no absent answer. */
  makes?: true;
  /** Status where it is allowed. */
  status?: number;
}

const json = (value: unknown) => () => ({ type: 'application/json', data: JSON.stringify(value) });
const named = { params: () => ({ name: there.name }), absentParams: { name: 'hullo' }, absent: 'function-not-found' };
const secret = { params: () => ({ name: there.secret }), absentParams: { name: 'KAY' }, absent: 'secret-not-found' };
const bundle = { params: () => ({ digest: there.digest }), absentParams: { digest: ABSENT_DIGEST }, absent: 'not-found' };
const invocation = {
  params: () => ({ name: there.name, id: there.event }),
  absentParams: { name: there.name, id: eventId('9') },
  absent: 'invocation-not-found',
};
const deadLetter = { ...invocation, params: () => ({ name: there.name, id: there.dead }), absent: 'dead-letter-not-found' };
const trigger = {
  params: () => ({ name: there.name, trigger: there.trigger }),
  absentParams: { name: there.name, trigger: 'tacks' },
  absent: 'trigger-not-found',
};
/** The trigger that is there. */
export const schedule = { type: 'cron', name: there.trigger, schedule: '* * * * *' };
/** Files of the function that is there. */
export const files = { 'index.mjs': 'export default () => {}' };

/** By operation of the API. */
export const CASES: Record<string, Case> = {
  getStatus: { scope: 'read', platform: true },
  shutdown: { scope: 'admin', platform: true, status: 403 },
  getOpenApi: { scope: null },
  whoAmI: { scope: null },
  listFunctions: { scope: 'read' },
  getFunction: { scope: 'read', ...named },
  deleteFunction: { scope: 'deploy', ...named, status: 204 },
  setTraffic: { scope: 'deploy', ...named, body: json({ traffic: [{ revision: 1, percent: 100 }] }) },
  setAccess: { scope: 'deploy', ...named, body: json({}) },
  listRevisions: { scope: 'read', ...named },
  deploy: {
    scope: 'deploy',
    ...named,
    absent: 'namespace-not-found',
    makes: true,
    body: () => json({ bundle: there.digest, entry: 'index.mjs', settings: {} })(),
    status: 201,
  },
  getLogs: { scope: 'read', ...named },
  getLogStats: { scope: 'read', ...named },
  listCalls: { scope: 'read', ...named },
  explainCall: { scope: 'read', params: () => ({ id: there.id }), absentParams: { id: 'call-2' }, absent: 'call-not-found' },
  listStats: { scope: 'read' },
  listNamespaceStats: { scope: 'read', absent: 'namespace-not-found', makes: true },
  getStats: { scope: 'read', ...named },
  listInvocations: { scope: 'read', ...named },
  getInvocation: { scope: 'read', ...invocation },
  getInvocationResult: { scope: 'deploy', ...invocation },
  cancelInvocation: { scope: 'deploy', ...invocation },
  getBacklog: { scope: 'read', ...named },
  listDeadLetters: { scope: 'read', ...named },
  getDeadLetter: { scope: 'deploy', ...deadLetter },
  redriveDeadLetters: { scope: 'deploy', ...named, body: json({ all: true }) },
  purgeDeadLetters: { scope: 'deploy', ...named, body: json({ all: true }) },
  listNamespaceTriggers: { scope: 'read', absent: 'namespace-not-found', makes: true },
  listTriggers: { scope: 'read', ...named },
  getTrigger: { scope: 'read', ...trigger },
  putTrigger: {
    scope: 'deploy',
    params: trigger.params,
    absentParams: { name: 'hullo', trigger: there.trigger },
    absent: 'function-not-found',
    body: json(schedule),
  },
  enableTrigger: { scope: 'deploy', ...trigger, body: json({ enabled: false }) },
  removeTrigger: { scope: 'deploy', ...trigger, status: 204 },
  getBundle: { scope: 'read', ...bundle },
  hasBundle: { scope: 'read', ...bundle },
  putBundle: { scope: 'deploy', ...bundle, makes: true, body: () => ({ type: 'application/gzip', data: there.bundle }) },
  putImage: {
    scope: 'deploy',
    absent: 'namespace-not-found',
    makes: true,
    body: () => ({ type: 'application/x-tar', data: 'archive' }),
  },
  pullImage: { scope: 'deploy', absent: 'namespace-not-found', makes: true, body: json({ reference: IMAGE }) },
  getImage: {
    scope: 'read',
    params: () => ({ image: there.image }),
    absentParams: { image: ABSENT_DIGEST },
    absent: 'image-not-found',
  },
  listSecrets: { scope: 'read', absent: 'namespace-not-found', makes: true },
  getSecret: { scope: 'read', ...secret },
  putSecret: { scope: 'deploy', ...secret, makes: true, body: json({ value: 'another' }) },
  deleteSecret: { scope: 'deploy', ...secret, status: 204 },
  listNamespaces: { scope: 'read' },
  getNamespace: { scope: 'read', absent: 'namespace-not-found', makes: true },
  putNamespace: { scope: 'admin', platform: true, absent: 'namespace-not-found', body: json({}) },
  deleteNamespace: { scope: 'admin', platform: true, absent: 'namespace-not-found', status: 409 },
  listTokens: { scope: 'admin' },
  createToken: { scope: 'admin', body: json({ name: 'x', scopes: ['read'], namespaces: [MINE] }), status: 201 },
  revokeToken: { scope: 'admin', params: () => ({ id: there.token }), absentParams: { id: 't-zzzzzzzzzzzz' }, absent: 'token-not-found' },
  listAudit: { scope: 'read' },
};

/** Those of docs/openapi.json. */
export const OPERATIONS = Object.entries(document.paths).flatMap(([path, item]) =>
  Object.entries(item).map(([method, operation]) => ({ path, method: method.toUpperCase(), ...operation, id: operation.operationId })),
);
export const caseOf = (id: string): Case => CASES[id] ?? expect.fail(`${id} has no case: add one`);
