/** Starts a runtime's shim as a process, on a unix socket or a TCP port, and speaks the protocol to it, as gateway and controller do. */
import { createHash } from 'node:crypto';
import { spawn } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { Agent, request, type ClientRequest, type IncomingMessage, type OutgoingHttpHeaders } from 'node:http';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { onTestFinished } from 'vitest';
import { HEADERS, Health, InitFailure, type InitRequest, InitResponse, RUNTIME_PATHS, RuntimeLogLine } from '#contract/runtime.ts';
import { freePort } from '../helpers/platform.ts';
import { waitFor } from '../helpers/wait.ts';
import { NODE, type RuntimeUnderTest } from './runtime-table.ts';

export const FIXTURES = NODE.fixtures;
export const INSTANCE = 'i-abcdefghijkl';
export const NONCE = 'the-nonce-of-this-instance';
export const HASHED_NONCE = `sha256:${createHash('sha256').update(NONCE).digest('hex')}`;

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
  /** Where it listens, as `connect` takes it. */
  address: { path: string } | { host: string; port: number };
  /** FN_CODE, over TCP: where its code goes. */
  codeFolder: string;
  /** A connection to it. */
  connect(onConnect: (socket: Socket) => void): Socket;
  /** One request, its answer read to the end. Rejects when the answer is cut off. */
  call(method: string, path: string, options?: CallOptions): Promise<Answer>;
  /** A request whose body the caller writes and whose answer the caller reads. */
  open(method: string, path: string, headers?: OutgoingHttpHeaders): { outgoing: ClientRequest; response: Promise<IncomingMessage> };
  health(): Promise<Health>;
  /** Sends `body` as code. */
  sendCode(body: Buffer | string, headers?: OutgoingHttpHeaders): Promise<Answer>;
  /** Specialises; returns the answer as it came. Over TCP the files of `code` are sent before the first one. */
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

/** The body of POST code. */
export function codeBody(files: { path: string; content: string | Buffer; executable?: boolean }[]): Buffer {
  const index = files.map(({ path, content, executable }) => ({ path, size: Buffer.byteLength(content), executable }));
  return Buffer.concat([Buffer.from(`${JSON.stringify({ files: index })}\n`), ...files.map(({ content }) => Buffer.from(content))]);
}

/** The files of a folder as the body of POST code. */
export function codeOf(folder: string): Buffer {
  const found = readdirSync(folder, { withFileTypes: true, recursive: true }).filter((entry) => entry.isFile());
  return codeBody(
    found.map((entry) => {
      const file = join(entry.parentPath, entry.name);
      return { path: relative(folder, file), content: readFileSync(file), executable: (statSync(file).mode & 0o111) !== 0 };
    }),
  );
}

/** Code that was received cannot be written to, nor can its folders be emptied. */
function removeFolder(folder: string): void {
  const folders = readdirSync(folder, { withFileTypes: true, recursive: true }).filter((entry) => entry.isDirectory());
  for (const entry of [folder, ...folders.map(({ parentPath, name }) => join(parentPath, name))]) chmodSync(entry, 0o755);
  rmSync(folder, { recursive: true, force: true });
}

/** Starts a shim and waits until it answers; it is killed when the test is over. */
export async function startShim(runtime: RuntimeUnderTest = NODE, env: Record<string, string> = {}): Promise<Shim> {
  const { file, args } = runtime.command;
  // A fixture by its name alone, or a file of a folder that the test names.
  const entryOf = (entry: string) => (entry.includes('.') ? entry : `${entry}${runtime.extension}`);
  const folder = mkdtempSync(join(tmpdir(), 'fn-shim-'));
  const overTcp = runtime.transport === 'tcp';
  const codeFolder = join(folder, 'code');
  mkdirSync(codeFolder);
  const socketPath = join(folder, 's');
  const port = overTcp ? await freePort() : 0;
  const agent = new Agent({ keepAlive: true });
  const child = spawn(file, args, {
    env: {
      FN_INSTANCE: INSTANCE,
      // As the drivers do: a pod's description is read by others.
      FN_NONCE: overTcp ? HASHED_NONCE : NONCE,
      ...(overTcp ? { FN_PORT: String(port), FN_CODE: codeFolder } : { FN_SOCKET: socketPath }),
      ...env,
    },
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
    removeFolder(folder);
  });
  const address = overTcp ? { host: '127.0.0.1', port } : { path: socketPath };

  const open: Shim['open'] = (method, path, headers = {}) => {
    const target = overTcp ? { host: '127.0.0.1', port } : { socketPath };
    // Whoever says nothing else means this one, as gateway and controller do.
    const named = overTcp ? { [HEADERS.instance]: INSTANCE, ...headers } : headers;
    const outgoing = request({ ...target, agent, method, path, headers: named });
    const response = new Promise<IncomingMessage>((resolve, reject) => outgoing.once('response', resolve).once('error', reject));
    response.catch(() => {}); // whoever awaits it is told; a caller that only aborts need not
    return { outgoing, response };
  };
  const call: Shim['call'] = async (method, path, { headers, body } = {}) => {
    const { outgoing, response } = open(method, path, headers);
    outgoing.end(body);
    return await readAnswer(await response);
  };
  let code = runtime.fixtures;
  const sendCode: Shim['sendCode'] = async (body, headers) => {
    const answer = await call('POST', RUNTIME_PATHS.code, { body: Buffer.from(body), headers: { [HEADERS.nonce]: NONCE, ...headers } });
    if (answer.status === 200) code = codeFolder;
    return answer;
  };
  const init: Shim['init'] = async (change) => {
    if (overTcp && code !== codeFolder) {
      const answer = await sendCode(codeOf(change?.code ?? code));
      if (answer.status !== 200) throw new Error(`code: ${answer.status} ${answer.text}\n${stdout}${stderr}`);
    }
    const given = overTcp ? { ...change, code } : { code, ...change };
    return await call('POST', RUNTIME_PATHS.init, {
      body: JSON.stringify(initRequest({ ...given, entry: entryOf(change?.entry ?? 'hello') })),
      headers: { 'content-type': 'application/json' },
    });
  };
  const shim: Shim = {
    pid: child.pid ?? 0,
    address,
    codeFolder,
    connect: (onConnect) => {
      const socket: Socket = connect(address, () => onConnect(socket));
      return socket;
    },
    call,
    open,
    sendCode,
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
