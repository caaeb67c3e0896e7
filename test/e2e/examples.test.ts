/** The examples as users copy them: each is deployed from its folder by its own fn.yaml and asked what its requests.yaml says. */
import { describe, expect, it } from 'vitest';
import { type Example, type HttpStep, type WebSocketStep, examples } from '../helpers/examples.ts';
import type { TestPlatform } from '../helpers/platform.ts';
import { usePlatform } from '../helpers/suite.ts';

/** Runtimes beside node that examples use. */
const platformOptions = { driver: 'docker' as const };

async function ask(platform: TestPlatform, name: string, step: HttpStep): Promise<void> {
  const [method, path] = step.request.split(' ') as [string, string];
  const { json, base64, expect: expected } = step;
  const body = json !== undefined ? JSON.stringify(json) : base64 !== undefined ? Buffer.from(base64, 'base64') : step.body;
  const headers = { ...(json === undefined ? {} : { 'content-type': 'application/json' }), ...step.headers };
  const answer = await platform.call(`/${name}${path}`, { method, headers, body });
  const what = `${step.request}: ${answer.text.slice(0, 2_000)}`;
  expect(answer.status, what).toBe(expected.status);
  for (const [header, value] of Object.entries(expected.headers)) expect(answer.headers[header], what).toBe(value);
  if (expected.text !== undefined) expect(answer.text, what).toBe(expected.text);
  if (expected.json !== undefined) expect(answer.json(), what).toEqual(expected.json);
  if (expected.contains !== undefined) expect(answer.text, what).toContain(expected.contains);
}

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
            setTimeout(reject, 10_000, new Error(`no answer ${line.expect} to ${line.send}, but ${received.join(', ')}`)),
          ),
        ]);
        heard = Promise.withResolvers<void>();
      }
    }
  } finally {
    socket.close();
  }
}

async function tryOut(platform: TestPlatform, { name, folder, secrets, steps }: Example): Promise<void> {
  for (const [secret, value] of Object.entries(secrets)) await platform.fnOk(['secret', 'set', secret], { input: value });
  await platform.fnOk(['deploy', '--file', `${folder}/fn.yaml`]);
  for (const step of steps) await ('request' in step ? ask(platform, name, step) : converse(platform, name, step));
}

describe('examples', () => {
  const platform = usePlatform(platformOptions);

  it.each(examples().map((example) => [example.name, example] as const))('%s answers as it says', async (_name, example) => {
    await tryOut(platform(), example);
  });
});
