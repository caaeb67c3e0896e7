/** `fn demo`: the shortest way to see what this is. */
import { createServer } from 'node:net';
import { join } from 'node:path';
import { sleep } from '#kit/clock.ts';
import { homePaths } from '#kit/paths.ts';
import type { ApiClient } from './client.ts';
import { connect } from './client.ts';
import { DEFAULT_PORT } from './commands/up.ts';
import type { Context } from './context.ts';
import { homeFlag, painter, printJson, say } from './context.ts';
import { build, release } from './deploy.ts';
import { CliError } from './errors.ts';
import { readBody, request } from './http.ts';
import { formatMs, table } from './output.ts';
import { ensureUp } from './platform.ts';
import { root } from './root.ts';
import type { Timing } from './server-timing.ts';
import { parseServerTiming } from './server-timing.ts';
import { runningState } from './state.ts';

export interface DemoOptions {
  port: number;
  driver: 'auto' | 'docker' | 'process';
  json: boolean;
}

const NAME = 'hello';
/** Short, so that scaling to zero can be watched. */
const KEEP_ALIVE_SECONDS = 2;
const SCALE_TO_ZERO_TIMEOUT_MS = 30_000;
const POLL_MS = 100;
const CALL_TIMEOUT_MS = 60_000;
const MAX_BODY_BYTES = 1024 * 1024;

interface Call {
  label: string;
  status: number;
  totalMs: number;
  timing: Timing;
}

/** Runs the demo, and leaves the platform running. Throws CliError where a call is not answered with 200. */
export async function runDemo(ctx: Context, { port, driver, json }: DemoOptions): Promise<void> {
  const paint = painter(ctx.stderr, ctx.env);
  const chosen = runningState(homePaths(ctx.home)) === null ? await freePort(ctx, port) : port;
  const { state, started } = await ensureUp(ctx, { home: ctx.home, host: '127.0.0.1', port: chosen, driver });
  if (!started && port !== state.port && port !== DEFAULT_PORT) say(ctx, `it runs already, on port ${state.port} and not ${port}`);
  say(ctx, paint('bold', started ? `fn is up at ${state.url}` : `fn is running at ${state.url}`));
  const client = connect({ ...ctx, env: { ...ctx.env, FN_URL: undefined, FN_HOME: ctx.home } });

  say(ctx, paint('bold', '\n$ fn deploy examples/hello --keep-alive 2'));
  const folder = join(root, 'examples/hello');
  const settings = { keepAliveSeconds: KEEP_ALIVE_SECONDS };
  const surroundings = { client, cwd: ctx.cwd, signal: ctx.signal, say: (line: string) => say(ctx, line), paint };
  const built = await build({ namespace: 'default', name: NAME, path: folder, image: null, folder, assets: [], settings }, surroundings);
  const { url } = await release(built, {}, surroundings);
  // The deployment itself left a warm instance: a cold start is to be seen first.
  await untilZero(ctx, client, 'waiting until its instance is gone');
  const calls = [await call(ctx, 'cold', url), await call(ctx, 'warm', url)];
  await untilZero(ctx, client, 'waiting until it has scaled to zero');
  calls.push(await call(ctx, 'from zero', url));
  calls.push(await call(ctx, 'warm', url));

  say(ctx, '');
  if (json) printJson(ctx, { url, calls: calls.map(({ label, status, totalMs, timing }) => ({ label, status, totalMs, ...timing })) });
  else ctx.stdout.write(renderCalls(calls));
  say(ctx, `\nTry it:    curl ${url}\nStop it:   fn down${homeFlag(ctx)}`);
  const failed = calls.find(({ status }) => status !== 200);
  if (failed) throw new CliError(`a call was answered with ${failed.status}`, { hint: `See fn logs ${NAME} and fn status.` });
}

/** Where the time of each call went. `rest` is what no phase accounts for: the network, the gateway, this client. */
export function renderCalls(calls: readonly Call[]): string {
  const phase = (name: string) => (row: Call) => (row.timing.phases[name] === undefined ? '–' : formatMs(row.timing.phases[name]));
  return table(
    [
      { title: 'CALL', value: (row) => row.label },
      { title: 'STATUS', value: (row) => String(row.status), align: 'right' },
      { title: 'KIND', value: (row) => row.timing.start ?? '–' },
      { title: 'TOTAL', value: (row) => formatMs(row.totalMs), align: 'right' },
      { title: 'QUEUE', value: phase('queue'), align: 'right' },
      { title: 'START', value: phase('start'), align: 'right' },
      { title: 'INIT', value: phase('init'), align: 'right' },
      { title: 'HANDLER', value: phase('handler'), align: 'right' },
    ],
    calls,
  );
}

async function call(ctx: Context, label: string, url: string): Promise<Call> {
  const startedAt = performance.now();
  const reply = await request({ url: new URL(url) }, { method: 'GET', path: '/', signal: ctx.signal, timeoutMs: CALL_TIMEOUT_MS });
  await readBody(reply, MAX_BODY_BYTES);
  return { label, status: reply.status, totalMs: performance.now() - startedAt, timing: parseServerTiming(reply.headers['server-timing']) };
}

async function untilZero(ctx: Context, client: ApiClient, why: string): Promise<void> {
  say(ctx, `${why} …`);
  const until = performance.now() + SCALE_TO_ZERO_TIMEOUT_MS;
  while (performance.now() < until) {
    const { instances } = await client.status();
    if (!instances.some((instance) => instance.namespace === 'default' && instance.function === NAME)) return;
    await sleep(POLL_MS, ctx.signal);
  }
  throw new CliError(`${NAME} did not scale to zero within ${SCALE_TO_ZERO_TIMEOUT_MS / 1_000} s`, { hint: 'See fn status.' });
}

/** The wanted port, or any free one where that is taken, which is said. */
async function freePort(ctx: Context, port: number): Promise<number> {
  const probe = createServer();
  const free = await new Promise<boolean>((resolve) => {
    probe.once('error', () => resolve(false));
    probe.listen(port, '127.0.0.1', () => resolve(true));
  });
  if (free) await new Promise((resolve) => probe.close(resolve));
  if (free || port === 0) return port;
  say(ctx, `port ${port} is taken: using a free one`);
  return 0;
}
