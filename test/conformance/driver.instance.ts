/** The function that driver conformance runs, and a client of the runtime protocol to talk to it. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { Health, HEADERS, InitResponse, RUNTIME_PATHS } from '#contract/runtime.ts';
import type { DriverInstance } from '../../controller/driver/types.ts';
import { waitFor } from '../helpers/wait.ts';

/** Longest wait for an answer, ms: an instance that is killed while it answers must not hold up the suite. */
const CALL_TIMEOUT_MS = 60_000;

/** What the function does, by path. The fake instance imitates the first five, and `/burn`. */
const SOURCE = `
import { connect } from 'node:net';
import { lookup } from 'node:dns/promises';
import { createSocket } from 'node:dgram';
import { readFileSync, writeFileSync, symlinkSync, rmSync } from 'node:fs';
import { networkInterfaces, tmpdir } from 'node:os';
const attempt = (run) => { try { run(); return 'done'; } catch (error) { return error.code ?? String(error); } };
const dial = (host, port) => new Promise((resolve) => {
  const socket = connect({ host, port, timeout: 3000 });
  socket.once('data', (data) => { socket.destroy(); resolve('said ' + data); });
  socket.once('timeout', () => { socket.destroy(); resolve('timeout'); });
  socket.once('error', (error) => resolve(error.code));
});
const held = [];
export default { async fetch(request) {
  const url = new URL(request.url);
  const param = (name) => url.searchParams.get(name);
  switch (url.pathname) {
    case '/exit': process.exit(Number(param('code')));
    case '/log': console.log(param('text')); return new Response('logged');
    case '/heap': for (;;) held.push(Array.from({ length: 10000 }, (_, index) => ({ index })));
    case '/eat': {
      for (let mib = 0; mib < Number(param('mib')); mib += 4) held.push(Buffer.alloc(4 * 1024 * 1024, 1));
      return new Response('ate');
    }
    case '/dial': return new Response(await dial(param('host'), Number(param('port'))));
    case '/lookup': {
      const found = await lookup(param('host'), { all: true, family: 4 }).then((all) => all.map(({ address }) => address), (error) => error.code);
      return Response.json(found);
    }
    case '/steal': return Response.json([
      attempt(() => rmSync('/fn/sock/s')),
      attempt(() => symlinkSync('/var/run/docker.sock', '/fn/sock/s')),
      attempt(() => symlinkSync('/etc/passwd', '/fn/sock/t')),
      attempt(() => writeFileSync('/fn/code/x', '')),
    ]);
    case '/keep': writeFileSync(tmpdir() + '/kept', param('text')); return new Response(readFileSync(tmpdir() + '/kept'));
    case '/interfaces': return Response.json(networkInterfaces());
    case '/spin': { const end = Date.now() + Number(param('ms')); while (Date.now() < end); return new Response('spun'); }
    case '/burn': {
      const begun = process.cpuUsage();
      const used = () => { const { user, system } = process.cpuUsage(begun); return user + system; };
      while (used() < Number(param('us')));
      return new Response(String(used()));
    }
    case '/self': return Response.json({ status: readFileSync('/proc/self/status', 'utf8'), limits: readFileSync('/proc/self/limits', 'utf8'), mounts: readFileSync('/proc/self/mounts', 'utf8'), resolvConf: readFileSync('/etc/resolv.conf', 'utf8'), env: process.env });
    default: return new Response('hello');
  }
} };
`;

/** Writes the function as an unpacked bundle, readable to its owner only as the bundle store may have it. */
export function writeBundle(folder: string): string {
  mkdirSync(join(folder, 'lib'), { recursive: true });
  writeFileSync(join(folder, 'index.mjs'), SOURCE, { mode: 0o600 });
  writeFileSync(join(folder, 'lib', 'data.txt'), 'data', { mode: 0o644 });
  return folder;
}

export interface Answer {
  status: number;
  body: string;
}

/** One request to an instance. Rejects when the connection breaks. */
export function call(instance: DriverInstance, path: string, body?: object): Promise<Answer> {
  const { address } = instance;
  // Over TCP every request names whom it means.
  const to = address.kind === 'unix' ? { socketPath: address.path } : { host: address.host, port: address.port };
  const meant = address.kind === 'unix' ? {} : { [HEADERS.instance]: address.instance };
  return new Promise((resolve, reject) => {
    const outgoing = request(
      {
        ...to,
        path,
        method: body ? 'POST' : 'GET',
        headers: { 'content-type': 'application/json', ...meant },
        timeout: CALL_TIMEOUT_MS,
        agent: false,
      },
      (incoming) => {
        const chunks: Buffer[] = [];
        incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
        incoming.on('error', reject);
        incoming.on('end', () => resolve({ status: incoming.statusCode ?? 0, body: Buffer.concat(chunks).toString('utf8') }));
      },
    );
    outgoing.on('timeout', () => outgoing.destroy(new Error(`no answer to ${path} within ${CALL_TIMEOUT_MS} ms`)));
    outgoing.on('error', reject);
    outgoing.end(body ? JSON.stringify(body) : undefined);
  });
}

/** Waits for the first health answer. */
export function healthOf(instance: DriverInstance): Promise<Health> {
  return waitFor('health', async () => Health.parse(JSON.parse((await call(instance, RUNTIME_PATHS.health)).body)), { everyMs: 5 });
}

/** Makes the instance the function. */
export async function init(instance: DriverInstance, nonce: string, code: string, memoryMib: number): Promise<InitResponse> {
  const answer = await call(instance, RUNTIME_PATHS.init, {
    nonce,
    revision: 'default/conformance@1',
    namespace: 'default',
    name: 'conformance',
    number: 1,
    code,
    entry: 'index.mjs',
    env: {},
    slots: 10,
    timeoutMs: 30_000,
    memoryMib,
    memoryClassMib: instance.memoryClassMib,
  });
  if (answer.status !== 200) throw new Error(`init answered ${answer.status}: ${answer.body}`);
  return InitResponse.parse(JSON.parse(answer.body));
}
