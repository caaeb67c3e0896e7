/** The examples as users copy them: each is deployed from its folder by its own fn.yaml and asked what its requests.yaml says. */
import { copyFileSync, cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { type EventuallyStep, type Example, type HttpStep, type WebSocketStep, examples } from '../helpers/examples.ts';
import { DeadLetterList } from '#contract/events.ts';
import { goProgram } from '../helpers/go-program.ts';
import type { TestPlatform } from '../helpers/platform.ts';
import { vendor } from '../helpers/python-packages.ts';
import { type RedisServer, startRedis } from '../helpers/redis-server.ts';
import { BUILD_TIMEOUT_MS, buildRuntimes } from '../helpers/runtime-images.ts';
import { usePlatform } from '../helpers/suite.ts';
import { waitFor } from '../helpers/wait.ts';

/** The URL in the examples that stands for a Redis of the user's own. */
const REDIS_URL = 'redis://127.0.0.1:6379';
/** Until an event has had its effect, retries included. */
const EFFECT_TIMEOUT_MS = 90_000;

/** Longest that one example may take: a Go program is compiled, packages are fetched the first time. */
const EXAMPLE_TIMEOUT_MS = 400_000;

/**
 * What a user does before `fn deploy`, and the example's README tells. Done in a copy: the folder of
 * the project stays as it is.
 */
const PREPARATIONS: Readonly<Record<string, (folder: string) => Promise<void>>> = {
  // In place of a package index: Debian's packages, in the folder that the bundler takes for vendored ones.
  flask: (folder) => vendor('flask', folder),
  fastapi: (folder) => vendor('fastapi', folder),
  'go-server': compile,
  image: compile,
};

/** go build -o server . */
async function compile(folder: string): Promise<void> {
  copyFileSync(await goProgram(join(folder, 'main.go')), join(folder, 'server'));
}

/** The folder to deploy. npm's packages are those of the project, which the examples are in. */
async function prepare({ name, folder }: Example, redis: RedisServer | null): Promise<string> {
  const preparation = PREPARATIONS[name];
  if (preparation === undefined && redis === null) return folder;
  const copy = mkdtempSync(join(tmpdir(), 'fn-example-'));
  onTestFinished(() => rmSync(copy, { recursive: true, force: true }));
  cpSync(folder, copy, { recursive: true });
  await preparation?.(copy);
  const manifest = join(copy, 'fn.yaml');
  if (redis !== null) writeFileSync(manifest, readFileSync(manifest, 'utf8').replaceAll(REDIS_URL, redis.url));
  return copy;
}

async function ask(platform: TestPlatform, name: string, step: HttpStep): Promise<void> {
  const [method, path] = step.request.split(' ') as [string, string];
  const { json, base64, expect: expected } = step;
  const body = json !== undefined ? JSON.stringify(json) : base64 !== undefined ? Buffer.from(base64, 'base64') : step.body;
  const headers = { ...(json === undefined ? {} : { 'content-type': 'application/json' }), ...step.headers };
  const target = step.webhook === undefined ? `/${step.function ?? name}${path}` : `/.fn/webhooks/${name}/${step.webhook}`;
  const answer = await platform.call(target, { method, headers, body });
  // One comparison of what was said: a failure shows the whole answer.
  const { status, text } = answer;
  const { headers: expectedHeaders, contains, json: expectedJson, ...rest } = expected;
  const seen = Object.fromEntries(Object.keys(expectedHeaders).map((header) => [header, answer.headers[header]]));
  expect({ request: step.request, status, text, headers: seen }).toMatchObject({
    request: step.request,
    ...rest,
    headers: expectedHeaders,
    ...(contains === undefined ? {} : { text: expect.stringContaining(contains) }),
  });
  if (expectedJson !== undefined) expect(JSON.parse(text)).toEqual(expectedJson);
}

const hear = async (platform: TestPlatform, name: string, { eventually, ...step }: EventuallyStep): Promise<void> =>
  void (await waitFor(
    `${eventually} to answer as it should`,
    () => ask(platform, name, { request: eventually, headers: {}, ...step }).then(() => true),
    { timeoutMs: EFFECT_TIMEOUT_MS, everyMs: 200 },
  ));

const countDeadLetters = async (platform: TestPlatform, name: string, count: number): Promise<void> =>
  void (await waitFor(
    `${count} dead letters`,
    async () => {
      const { stdout } = await platform.fnOk(['dlq', 'list', name, '--json']);
      return DeadLetterList.parse(JSON.parse(stdout)).deadLetters.length === count;
    },
    { timeoutMs: EFFECT_TIMEOUT_MS, everyMs: 500 },
  ));

async function converse(platform: TestPlatform, name: string, { websocket, say }: WebSocketStep): Promise<void> {
  const socket = new WebSocket(`${platform.url.replace(/^http/, 'ws')}/${name}${websocket}`);
  const received: string[] = [];
  let heard = Promise.withResolvers<void>();
  socket.addEventListener('message', ({ data }) => {
    received.push(String(data));
    heard.resolve();
  });
  try {
    await new Promise((resolve, reject) => {
      socket.addEventListener('open', resolve);
      socket.addEventListener('error', () => reject(new Error('the WebSocket did not open')));
    });
    for (const line of say) {
      socket.send(line.send);
      while (!received.includes(line.expect)) {
        await Promise.race([
          heard.promise,
          new Promise((_resolve, reject) =>
            setTimeout(reject, 60_000, new Error(`no answer ${line.expect} to ${line.send}, but ${received.join(', ')}`)),
          ),
        ]);
        heard = Promise.withResolvers<void>();
      }
    }
  } finally {
    socket.close();
  }
}

async function tryOut(platform: TestPlatform, example: Example): Promise<void> {
  const { name, secrets, steps } = example;
  const redis = example.needs.includes('redis') ? await startRedis() : null;
  if (redis !== null) onTestFinished(() => redis.stop());
  const folder = await prepare(example, redis);
  for (const [secret, value] of Object.entries(secrets)) await platform.fnOk(['secret', 'set', secret], { input: value });
  await platform.fnOk(['deploy', '--file', `${folder}/fn.yaml`]);
  for (const step of steps) await take(platform, name, step, redis);
  // Schedules and brokers would go on with it, beside the others.
  if (steps.some((step) => 'eventually' in step)) for (const one of example.functions) await platform.fnOk(['delete', one, '--yes']);
}

async function take(platform: TestPlatform, name: string, step: Example['steps'][number], redis: RedisServer | null): Promise<void> {
  if ('request' in step) return await ask(platform, name, step);
  if ('websocket' in step) return await converse(platform, name, step);
  if ('eventually' in step) return await hear(platform, name, step);
  if ('deadLetters' in step) return await countDeadLetters(platform, name, step.deadLetters);
  if (redis === null) throw new Error(`${name} speaks to a Redis, and does not say that it needs one`);
  const client = redis.client();
  for (const [command, ...args] of step.redis) await client.call(command!, ...args);
}

describe('examples', () => {
  beforeAll(() => buildRuntimes('python', 'bun', 'deno', 'binary'), BUILD_TIMEOUT_MS);
  const platform = usePlatform({ driver: 'docker' });

  it.each(examples().map((example) => [example.name, example] as const))(
    '%s answers as it says',
    async (_name, example) => {
      await expect(tryOut(platform(), example)).resolves.toBeUndefined();
    },
    EXAMPLE_TIMEOUT_MS,
  );
});
