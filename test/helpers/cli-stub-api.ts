/** The control API with nothing behind it: enough for the CLI to deploy, list, read logs and shut down. */
import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { DeployRequest } from '#contract/api.ts';
import type { DeployResponse, LogEntry, PlatformStatus } from '#contract/api.ts';
import { FnError, PROBLEM_TYPE } from '#contract/errors.ts';
import type { FunctionView, Revision } from '#contract/function.ts';
import { FunctionSettings } from '#contract/function.ts';
import { functionPath, revisionKey } from '#contract/names.ts';

export interface StubApi {
  server: Server;
  /** `POST /v1/bundles/…`, in their order. */
  requests: string[];
  functions: Map<string, FunctionView>;
  bundles: Map<string, Buffer>;
  logs: LogEntry[];
  /** Thrown by the next deployment. */
  refuse: FnError | null;
}

export interface StubApiOptions {
  publicUrl: string;
  /** Needed as a bearer token where it is given. */
  token?: string;
  onShutdown?: () => void;
}

/** A server that is not listening yet. */
export function createStubApi({ publicUrl, token, onShutdown }: StubApiOptions): StubApi {
  const state: StubApi = { server: createServer(), requests: [], functions: new Map(), bundles: new Map(), logs: [], refuse: null };
  state.server.on('request', (incoming: IncomingMessage, outgoing: ServerResponse) => {
    state.requests.push(`${incoming.method} ${incoming.url}`);
    answer(state, { publicUrl, token, onShutdown }, incoming, outgoing).catch((error: unknown) => {
      const told = error instanceof FnError ? error : new FnError('internal', String(error));
      outgoing.writeHead(told.status, { 'content-type': PROBLEM_TYPE }).end(JSON.stringify(told.toProblem('stub-1')));
    });
  });
  return state;
}

async function bodyOf(incoming: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of incoming as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks);
}

async function answer(state: StubApi, options: StubApiOptions, incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
  const { pathname } = new URL(incoming.url ?? '/', 'http://stub');
  const body = await bodyOf(incoming);
  const json = (status: number, value: unknown) =>
    void outgoing.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value));
  if (options.token !== undefined && incoming.headers.authorization !== `Bearer ${options.token}`)
    throw new FnError('unauthorized', 'No valid token was sent.');
  const bundle = /^\/v1\/bundles\/(.+)$/.exec(pathname)?.[1];
  const name = /^\/v1\/namespaces\/([^/]+)\/functions\/([^/]+)(?:\/(revisions|logs))?$/.exec(pathname);
  if (pathname === '/v1/status') json(200, statusOf(state, options.publicUrl));
  else if (pathname === '/v1/shutdown') {
    json(202, {});
    options.onShutdown?.();
  } else if (pathname === '/v1/functions') json(200, { functions: [...state.functions.values()] });
  else if (bundle !== undefined) answerBundle(state, bundle, incoming.method ?? '', body, outgoing);
  else if (name)
    answerFunction(
      state,
      options.publicUrl,
      { method: incoming.method ?? '', namespace: name[1]!, name: name[2]!, part: name[3], body },
      outgoing,
      json,
    );
  else throw new FnError('not-found', `There is nothing at ${pathname}.`);
}

function answerBundle(state: StubApi, digest: string, method: string, body: Buffer, outgoing: ServerResponse): void {
  if (method === 'PUT') state.bundles.set(digest, body);
  const found = state.bundles.get(digest);
  outgoing.writeHead(found ? (method === 'PUT' ? 201 : 200) : 404, { 'content-type': 'application/json' });
  outgoing.end(method === 'HEAD' || !found ? undefined : JSON.stringify({ digest, bytes: found.length, files: 2 }));
}

interface FunctionCall {
  method: string;
  namespace: string;
  name: string;
  part: string | undefined;
  body: Buffer;
}

function answerFunction(
  state: StubApi,
  publicUrl: string,
  call: FunctionCall,
  outgoing: ServerResponse,
  json: (status: number, value: unknown) => void,
): void {
  const { namespace, name, part, method } = call;
  const key = `${namespace}/${name}`;
  if (part === 'revisions' && method === 'POST') {
    json(201, deployed(state, publicUrl, call));
    return;
  }
  const view = state.functions.get(key);
  if (!view) throw new FnError('function-not-found', `There is no function ${key}.`);
  if (part === 'logs')
    outgoing
      .writeHead(200, { 'content-type': 'application/x-ndjson' })
      .end(state.logs.map((entry) => `${JSON.stringify(entry)}\n`).join(''));
  else if (part === 'revisions') json(200, { revisions: [view.revision] });
  else if (method === 'DELETE') {
    state.functions.delete(key);
    outgoing.writeHead(204).end();
  } else json(200, view);
}

function deployed(state: StubApi, publicUrl: string, { namespace, name, body }: FunctionCall): DeployResponse {
  const parsed = DeployRequest.safeParse(JSON.parse(body.toString()));
  if (!parsed.success)
    throw new FnError('invalid', 'The deployment is not valid.', {
      errors: parsed.error.issues.map((issue) => ({ pointer: `/${issue.path.join('/')}`, detail: issue.message })),
    });
  const { refuse } = state;
  state.refuse = null;
  if (refuse) throw refuse;
  const before = state.functions.get(`${namespace}/${name}`);
  const number = (before?.revision.number ?? 0) + 1;
  const settings = FunctionSettings.parse(parsed.data.settings);
  const revision: Revision = {
    key: revisionKey(namespace, name, number),
    namespace,
    name,
    number,
    bundle: parsed.data.bundle,
    entry: parsed.data.entry,
    settings: { ...settings, concurrency: settings.concurrency ?? 50, egress: settings.egress ?? 'none' },
    form: 'fetch',
    createdAt: Date.UTC(2026, 0, 1),
  };
  const url = `${publicUrl}${functionPath(namespace, name)}`;
  state.functions.set(`${namespace}/${name}`, {
    namespace,
    name,
    url,
    revision,
    revisions: [...(before?.revisions ?? []), number],
    instances: 0,
  });
  return { url, revision, timing: { startMs: 3, initMs: 4, routeMs: 1 }, start: 'pooled', notes: [] };
}

function statusOf(state: StubApi, publicUrl: string): PlatformStatus {
  const functions = [...state.functions.values()].map(({ namespace, name, url, revision, instances }) => ({
    namespace,
    name,
    url,
    revision: revision.key,
    instances,
  }));
  return {
    version: '0.1.0',
    home: '/home/stub',
    gateway: { pid: 4242, url: publicUrl, connected: 1 },
    controller: { pid: process.pid, url: 'unix:/run/stub', term: 1, uptimeSeconds: 61 },
    driver: 'process',
    features: { freeze: false, exactLimits: false, parentCgroup: false, egress: 'unfiltered', notes: ['Limits are not enforced here.'] },
    budget: { memoryMib: 1024, memoryUsedMib: 128, cpu: 64, cpuUsed: 1 },
    runtimes: [{ name: 'node', version: '24.0.0' }],
    functions,
    instances: [
      { id: 'i-abcdefghijkl', state: 'generic', runtime: 'node', memoryMib: 128, cpu: 1, network: 'none', pid: 77, ageSeconds: 5 },
      {
        id: 'i-bbcdefghijkl',
        state: 'busy',
        runtime: 'node',
        namespace: 'default',
        function: 'hello',
        revision: 'default/hello@1',
        memoryMib: 128,
        cpu: 1,
        network: 'egress',
        ageSeconds: 200,
      },
    ],
  };
}
