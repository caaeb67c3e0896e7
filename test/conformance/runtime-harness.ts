/** Starts a runtime's shim as a process on a unix socket and speaks the protocol to it, as gateway and controller do. */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { Agent, request, type ClientRequest, type IncomingMessage, type OutgoingHttpHeaders } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { HEADERS, Health, InitFailure, type InitRequest, InitResponse, RUNTIME_PATHS, RuntimeLogLine } from '#contract/runtime.ts';
import { waitFor } from '../helpers/wait.ts';
import { NODE, type RuntimeUnderTest } from './runtime-table.ts';

export const FIXTURES = NODE.fixtures;
export const INSTANCE = 'i-abcdefghijkl';
export const NONCE = 'the-nonce-of-this-instance';

export interface Answer {
  status: number;
  headers: IncomingMessage['headers'];
  rawHeaders: string[];
  body: Buffer;
  text: string;
  json(): unknown;
}

export interface CallOptions {
  headers?: OutgoingHttpHeaders;
  body?: string | Buffer;
}

export interface Shim {
  pid: number;
  socketPath: string;
  /** One request, its answer read to the end. Rejects when the answer is cut off. */
  call(method: string, path: string, options?: CallOptions): Promise<Answer>;
  /** A request whose body the caller writes and whose answer the caller reads. */
  open(method: string, path: string, headers?: OutgoingHttpHeaders): { outgoing: ClientRequest; response: Promise<IncomingMessage> };
  health(): Promise<Health>;
  /** Specialises; returns the answer as it came. */
  init(change?: Partial<InitRequest>): Promise<Answer>;
  /** Specialises and requires that it worked. */
  become(entry: string, change?: Partial<InitRequest>): Promise<InitResponse>;
  /** Specialises and requires that the function's own error came back. */
  fails(entry: string, change?: Partial<InitRequest>): Promise<InitFailure['error']>;
  /** What was written to stdout so far: each line must be one of the contract. */
  lines(): RuntimeLogLine[];
  /** Bytes on stderr so far. */
  stderr(): string;
  exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  signal(name: NodeJS.Signals): void;
}

export function initRequest(change: Partial<InitRequest> = {}): InitRequest {
  return {
    nonce: NONCE,
    revision: 'default/hello@7',
    namespace: 'default',
    name: 'hello',
    number: 7,
    code: FIXTURES,
    entry: 'hello.mjs',
    env: {},
    slots: null,
    timeoutMs: 10_000,
    memoryMib: 128,
    memoryClassMib: 128,
    ...change,
  };
}

/** Starts a shim and waits until it answers; it is killed when the test is over. */
export async function startShim(runtime: RuntimeUnderTest = NODE, env: Record<string, string> = {}): Promise<Shim> {
  const { file, args } = runtime.command;
  // A fixture by its name alone, or a file of a folder that the test names.
  const entryOf = (entry: string) => (entry.includes('.') ? entry : `${entry}${runtime.extension}`);
  const folder = mkdtempSync(join(tmpdir(), 'fn-shim-'));
  const socketPath = join(folder, 's');
  const agent = new Agent({ keepAlive: true });
  const child = spawn(file, args, {
    env: { FN_INSTANCE: INSTANCE, FN_NONCE: NONCE, FN_SOCKET: socketPath, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const exited = new Promise<Awaited<Shim['exited']>>((resolve) => child.once('close', (code, signal) => resolve({ code, signal })));
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  onTestFinished(async () => {
    agent.destroy();
    child.kill('SIGKILL');
    await exited;
    rmSync(folder, { recursive: true, force: true });
  });

  const open: Shim['open'] = (method, path, headers = {}) => {
    const outgoing = request({ socketPath, agent, method, path, headers });
    const response = new Promise<IncomingMessage>((resolve, reject) => outgoing.once('response', resolve).once('error', reject));
    response.catch(() => {}); // whoever awaits it is told; a caller that only aborts need not
    return { outgoing, response };
  };
  const call: Shim['call'] = async (method, path, { headers, body } = {}) => {
    const { outgoing, response } = open(method, path, headers);
    outgoing.end(body);
    return await readAnswer(await response);
  };
  const init: Shim['init'] = (change) =>
    call('POST', RUNTIME_PATHS.init, {
      body: JSON.stringify(initRequest({ code: runtime.fixtures, ...change, entry: entryOf(change?.entry ?? 'hello') })),
      headers: { 'content-type': 'application/json' },
    });
  const shim: Shim = {
    pid: child.pid ?? 0,
    socketPath,
    call,
    open,
    init,
    health: async () => Health.parse((await call('GET', RUNTIME_PATHS.health)).json()),
    async become(entry, change) {
      const answer = await init({ entry, ...change });
      if (answer.status !== 200) throw new Error(`init of ${entry}: ${answer.status} ${answer.text}\n${stdout}${stderr}`);
      return InitResponse.parse(answer.json());
    },
    async fails(entry, change) {
      const answer = await init({ entry, ...change });
      if (answer.status !== 422) throw new Error(`init of ${entry}: ${answer.status} ${answer.text}`);
      return InitFailure.parse(answer.json()).error;
    },
    lines: () =>
      stdout
        .slice(0, stdout.lastIndexOf('\n') + 1)
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => RuntimeLogLine.parse(JSON.parse(line))),
    stderr: () => stderr,
    exited,
    signal: (name) => void child.kill(name),
  };
  await waitFor('the shim to answer', () => shim.health(), { everyMs: 5 });
  return shim;
}

/** Reads an answer to its end. Rejects when it is cut off. */
export async function readAnswer(incoming: IncomingMessage): Promise<Answer> {
  const chunks: Buffer[] = [];
  for await (const chunk of incoming as AsyncIterable<Buffer>) chunks.push(chunk);
  const body = Buffer.concat(chunks);
  const text = body.toString();
  return {
    status: incoming.statusCode ?? 0,
    headers: incoming.headers,
    rawHeaders: incoming.rawHeaders,
    body,
    text,
    json: () => JSON.parse(text) as unknown,
  };
}

/** Waits for a log line. */
export function lineWith(shim: Shim, text: string): Promise<RuntimeLogLine> {
  return waitFor(`a log line with ${JSON.stringify(text)}`, () => shim.lines().find(({ msg }) => msg.includes(text)));
}

/** Headers as the gateway sends them. */
export function gatewayHeaders(id: string, deadline = Date.now() + 10_000): OutgoingHttpHeaders {
  return {
    [HEADERS.requestId]: id,
    [HEADERS.deadline]: String(deadline),
    [HEADERS.instance]: INSTANCE,
    [HEADERS.traceparent]: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
    'x-forwarded-for': '203.0.113.9',
    'x-forwarded-proto': 'https',
    host: 'fn.example:8443',
  };
}
