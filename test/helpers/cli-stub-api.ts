/** The control API with nothing behind it: enough for the CLI to deploy, shift traffic, read logs and shut down. */
import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { LogEntry, PlatformStatus } from '#contract/api.ts';
import { FnError, PROBLEM_TYPE } from '#contract/errors.ts';
import { StubFunctions } from './cli-stub-functions.ts';

export interface StubApi {
  server: Server;
  /** `POST /v1/namespaces/…`, in their order. */
  requests: string[];
  /** JSON that was sent, by `PUT /v1/…`; the last of each. */
  bodies: Map<string, unknown>;
  functions: StubFunctions;
  /** By `namespace/digest`. */
  bundles: Map<string, Buffer>;
  logs: LogEntry[];
  /** Answers to what the stub does not know by itself, by `GET /v1/whoami`: status and JSON. */
  canned: Map<string, { status: number; json?: unknown }>;
  /** The answer to everything, where it is set. */
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
  const functions = new StubFunctions(publicUrl);
  const state: StubApi = {
    server: createServer(),
    requests: [],
    bodies: new Map(),
    functions,
    bundles: new Map(),
    logs: [],
    canned: new Map(),
    refuse: null,
  };
  state.server.on('request', (incoming: IncomingMessage, outgoing: ServerResponse) => {
    state.requests.push(`${incoming.method} ${incoming.url}`);
    answer(state, { publicUrl, token, onShutdown }, incoming, outgoing).catch((error: unknown) => {
      const told = error instanceof FnError ? error : new FnError('internal', String(error));
      outgoing.writeHead(told.status, { 'content-type': PROBLEM_TYPE }).end(JSON.stringify(told.toProblem('stub-1')));
    });
  });
  return state;
}

/** Listens on any free port of this machine; returns the URL for FN_URL. */
export async function listenStubApi(api: StubApi): Promise<string> {
  await new Promise<void>((resolve) => api.server.listen(0, '127.0.0.1', resolve));
  const address = api.server.address();
  return `http://127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}`;
}

async function bodyOf(incoming: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of incoming as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks);
}

interface Asked {
  method: string;
  pathname: string;
  query: URLSearchParams;
  body: Buffer;
  json: unknown;
  ifMatch: string | undefined;
}

async function answer(state: StubApi, options: StubApiOptions, incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
  const { pathname, searchParams } = new URL(incoming.url ?? '/', 'http://stub');
  const body = await bodyOf(incoming);
  const isJson = incoming.headers['content-type'] === 'application/json';
  const json: unknown = isJson ? JSON.parse(body.toString('utf8')) : undefined;
  const method = incoming.method ?? '';
  if (isJson) state.bodies.set(`${method} ${pathname}`, json);
  if (options.token !== undefined && incoming.headers.authorization !== `Bearer ${options.token}`)
    throw new FnError('unauthorized', 'No valid token was sent.');
  if (state.refuse !== null) throw state.refuse;
  const asked: Asked = { method, pathname, query: searchParams, body, json, ifMatch: incoming.headers['if-match'] };
  const canned = state.canned.get(`${method} ${pathname}`);
  if (canned) reply(outgoing, canned.status, canned.json);
  else if (pathname === '/v1/status') reply(outgoing, 200, statusOf(state, options.publicUrl));
  else if (pathname === '/v1/functions')
    reply(outgoing, 200, { functions: state.functions.views(searchParams.get('namespace') ?? undefined) });
  else if (pathname === '/v1/shutdown') {
    reply(outgoing, 202, {});
    options.onShutdown?.();
  } else if (!answerBundle(state, asked, outgoing) && !answerFunction(state, asked, outgoing))
    throw new FnError('not-found', `There is nothing at ${pathname}.`);
}

function reply(outgoing: ServerResponse, status: number, value?: unknown): void {
  outgoing.writeHead(status, { 'content-type': 'application/json' }).end(value === undefined ? undefined : JSON.stringify(value));
}

function answerBundle(state: StubApi, { pathname, method, body }: Asked, outgoing: ServerResponse): boolean {
  const [, namespace, digest] = /^\/v1\/namespaces\/([^/]+)\/bundles\/(.+)$/.exec(pathname) ?? [];
  if (namespace === undefined || digest === undefined) return false;
  const key = `${namespace}/${digest}`;
  if (method === 'PUT') state.bundles.set(key, body);
  const found = state.bundles.get(key);
  reply(
    outgoing,
    found ? (method === 'PUT' ? 201 : 200) : 404,
    method === 'HEAD' || !found ? undefined : { digest, bytes: found.length, files: 2 },
  );
  return true;
}

function answerFunction({ functions, logs }: StubApi, { pathname, method, json, ifMatch }: Asked, outgoing: ServerResponse): boolean {
  const [, namespace, name, part = ''] =
    /^\/v1\/namespaces\/([^/]+)\/functions\/([^/]+)(?:\/(revisions|logs|logs\/stats|traffic|access|backlog))?$/.exec(pathname) ?? [];
  if (namespace === undefined || name === undefined) return false;
  switch (`${method} ${part}`) {
    case 'POST revisions':
      reply(outgoing, 201, functions.deploy(namespace, name, json));
      return true;
    case 'GET revisions':
      reply(outgoing, 200, { revisions: functions.revisions(namespace, name) });
      return true;
    case 'PUT traffic':
      reply(outgoing, 200, functions.setTraffic(namespace, name, json, ifMatch));
      return true;
    case 'PUT access':
      reply(outgoing, 200, functions.setAccess(namespace, name, json, ifMatch));
      return true;
    case 'GET logs/stats':
      functions.view(namespace, name);
      reply(outgoing, 200, { bytes: 0, droppedLines: 0, oldest: null });
      return true;
    case 'GET logs':
      functions.view(namespace, name);
      outgoing.writeHead(200, { 'content-type': 'application/x-ndjson' }).end(logs.map((entry) => `${JSON.stringify(entry)}\n`).join(''));
      return true;
    case 'GET backlog':
      functions.view(namespace, name);
      reply(outgoing, 200, { waiting: 0, running: 0, dead: 0, oldestAt: null });
      return true;
    case 'DELETE ':
      functions.delete(namespace, name);
      reply(outgoing, 204);
      return true;
    case 'GET ':
      reply(outgoing, 200, functions.view(namespace, name));
      return true;
    default:
      return false;
  }
}

function statusOf(state: StubApi, publicUrl: string): PlatformStatus {
  const functions = state.functions.views().map(({ namespace, name, url, revision, instances }) => ({
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
    dispatcher: { pid: null },
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
