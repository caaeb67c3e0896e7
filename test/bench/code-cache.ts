/**
 * Loading a bundle of 2 MB with and without V8's code cache: real packages of this repository, bundled as `fn deploy` does, which do at
 * load what a service does (schemas, routes, clients). The shim alone, in interleaved rounds, so that nothing but the cache differs.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { build } from 'esbuild';
import { CodeIndex, HEADERS, InitResponse, RUNTIME_PATHS } from '#contract/runtime.ts';
import { ROOT } from '../helpers/root.ts';
import { waitFor } from '../helpers/wait.ts';
import { type Measurement, rounds } from './context.ts';
import type { Figure } from './report.ts';
import { median, spread } from './stats.ts';

const SOURCE = `
import { Hono } from 'hono';
import { cors } from 'hono/cors';
import Redis from 'ioredis';
import * as jose from 'jose';
import * as luxon from 'luxon';
import protobuf from 'protobufjs';
import { z } from 'zod';
const User = z.object({ name: z.string().min(1), mail: z.email(), born: z.iso.date().optional(), tags: z.array(z.string()).max(20) });
const root = protobuf.Root.fromJSON({ nested: { Order: { fields: { id: { type: 'string', id: 1 }, price: { type: 'double', id: 2 } } } } });
const redis = new Redis({ lazyConnect: true });
const app = new Hono();
app.use(cors());
for (const path of ['users', 'orders', 'carts', 'items']) app.get('/' + path + '/:id', (c) => c.json({ path, id: c.req.param('id') }));
app.post('/users', async (c) => c.json(User.parse(await c.req.json())));
const since = luxon.DateTime.utc(2026).plus({ days: 3 }).toISO();
app.get('/', (c) => c.json({ since, order: root.lookupType('Order').name, status: redis.status, jose: Object.keys(jose).length }));
export default app;
`;
const NONCE = 'nonce';
const INSTANCE = 'i-abcdefghijkl';

interface Loaded {
  loadMs: number;
  cpuMs: number;
  codeCache: string | undefined;
}

class Bundle {
  readonly folder = mkdtempSync(join(tmpdir(), 'fn-cc-'));
  readonly code = join(this.folder, 'code');

  async make(): Promise<number> {
    const banner = { js: "import { createRequire as fnRequire } from 'node:module'; const require = fnRequire(import.meta.url);" };
    await build({
      stdin: { contents: SOURCE, resolveDir: ROOT, loader: 'js' },
      bundle: true,
      format: 'esm',
      platform: 'node',
      outfile: join(this.code, 'index.mjs'),
      banner,
      logLevel: 'error',
    });
    return statSync(join(this.code, 'index.mjs')).size;
  }

  /** One instance, from its start to the answer of init; `use` is called with its socket while it is there. */
  async load(codeCache: boolean, use: (socketPath: string) => Promise<void> = () => Promise.resolve()): Promise<Loaded> {
    const folder = mkdtempSync(join(this.folder, 'i-'));
    const socketPath = join(folder, 's');
    const env = { FN_INSTANCE: INSTANCE, FN_NONCE: NONCE, FN_SOCKET: socketPath, TMPDIR: folder };
    const child = spawn(process.execPath, [join(ROOT, 'runtime-images/node/shim.mjs')], { env, stdio: 'ignore' });
    try {
      await waitFor('the shim', () => call(socketPath, 'GET', RUNTIME_PATHS.health).then(({ status }) => status === 200), { everyMs: 10 });
      // What it does to warm itself up is not what is measured.
      await untilIdle(child);
      const before = cpuOf(child);
      const body = { codeCache, nonce: NONCE, code: this.code, entry: 'index.mjs', env: {}, slots: null, ...IDENTITY };
      const { text } = await call(socketPath, 'POST', RUNTIME_PATHS.init, JSON.stringify(body));
      const cpuMs = cpuOf(child) - before;
      const answer = InitResponse.parse(JSON.parse(text.toString('utf8')));
      await use(socketPath);
      return { loadMs: answer.loadMs, cpuMs, codeCache: answer.codeCache };
    } finally {
      const ended = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGKILL');
      await ended;
      rmSync(folder, { recursive: true, force: true });
    }
  }

  /** As the platform does it: the first instance makes the cache, and it is put beside the code. Returns its bytes. */
  async makeCache(): Promise<number> {
    let bytes = 0;
    const { codeCache } = await this.load(true, async (socketPath) => {
      const { text: body } = await call(socketPath, 'GET', RUNTIME_PATHS.codeCache);
      const end = body.indexOf(10);
      let at = end + 1;
      for (const { path, size } of CodeIndex.parse(JSON.parse(body.toString('utf8', 0, end))).files) {
        const file = join(this.code, '.fn/code-cache', path);
        mkdirSync(dirname(file), { recursive: true });
        writeFileSync(file, body.subarray(at, at + size));
        at += size;
        bytes += size;
      }
    });
    if (codeCache !== 'made') throw new Error(`the first instance said ${codeCache} of its code cache`);
    return bytes;
  }

  close(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

const IDENTITY = {
  revision: 'default/big@1',
  namespace: 'default',
  name: 'big',
  number: 1,
  timeoutMs: 10_000,
  memoryMib: 128,
  memoryClassMib: 128,
};

function call(socketPath: string, method: string, path: string, body?: string): Promise<{ status: number; text: Buffer }> {
  return new Promise((resolve, reject) => {
    const headers = { [HEADERS.nonce]: NONCE, ...(body === undefined ? {} : { 'content-type': 'application/json' }) };
    const outgoing = request({ socketPath, method, path, headers, agent: false }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks) }));
      response.on('error', reject);
    });
    outgoing.on('error', reject);
    outgoing.end(body);
  });
}

/** CPU of a process and all its threads so far, ms, in steps of 10: utime and stime of proc(5). */
function cpuOf({ pid }: ChildProcess): number {
  const [, user = '0', system = '0'] = /^.*\) (?:\S+ ){11}(\d+) (\d+)/.exec(readFileSync(`/proc/${pid}/stat`, 'utf8')) ?? [];
  return (Number(user) + Number(system)) * 10;
}

/** Resolves when a process has used no CPU for a moment. */
async function untilIdle(child: ChildProcess): Promise<void> {
  let last = -1;
  await waitFor('an idle shim', () => last === (last = cpuOf(child)), { everyMs: 200 });
}

/** Of what was measured with and without. */
function figureOf(what: string, unit: 'ms', [without, cached]: [number[], number[]], note?: string): Figure {
  const [before, after] = [median(without), median(cached)];
  return {
    group: 'code-cache',
    what,
    unit,
    value: after,
    against: { what: 'without', value: before },
    ratio: after / before,
    spread: spread(cached),
    mark: { says: 'less than without', met: after < before },
    ...(note === undefined ? {} : { note }),
  };
}

export const codeCache: Measurement = {
  group: 'code-cache',
  async run(context) {
    const bundle = new Bundle();
    try {
      const size = await bundle.make();
      const cacheBytes = await bundle.makeCache();
      context.say(`a bundle of ${(size / 1e6).toFixed(2)} MB, its cache ${(cacheBytes / 1e6).toFixed(2)} MB`);
      const load: [number[], number[]] = [[], []];
      const cpu: [number[], number[]] = [[], []];
      for (let round = 0; round < rounds(context, 20); round += 1) {
        for (const cached of round % 2 === 0 ? [0, 1] : [1, 0]) {
          const { loadMs, cpuMs, codeCache: said } = await bundle.load(cached === 1);
          if (cached === 1 && said !== 'hit') throw new Error(`an instance with a code cache beside its code said ${said}`);
          load[cached]!.push(loadMs);
          cpu[cached]!.push(cpuMs);
        }
      }
      const sizes = `${(size / 1e6).toFixed(1)} MB of JavaScript, ${(cacheBytes / 1e6).toFixed(1)} MB of cache`;
      return [
        figureOf('loading a large bundle with a code cache', 'ms', load, sizes),
        figureOf('… CPU of init', 'ms', cpu, 'user and system of all threads, in steps of 10 ms'),
      ];
    } finally {
      bundle.close();
    }
  },
};
