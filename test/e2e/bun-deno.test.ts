/** Functions of Bun and Deno, in containers: their own ways to serve, their own globals, pooled as any other. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { tmpdir } from 'node:os';
import { beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { WebSocket } from 'ws';
import { FunctionView } from '#contract/function.ts';
import { BUILD_TIMEOUT_MS, buildRuntimes } from '../helpers/runtime-images.ts';
import { usePlatform } from '../helpers/suite.ts';
import { waitFor } from '../helpers/wait.ts';

function project(files: Record<string, string>): string {
  const folder = mkdtempSync(join(tmpdir(), 'fn-e2e-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), text);
  }
  return folder;
}

/** Sends `marco` and resolves to what comes back, and the code that the other side closes with. */
function echo(url: string): Promise<{ said: string; code: number }> {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(url.replace(/^http/, 'ws'));
    let said = '';
    socket.on('open', () => socket.send('marco'));
    socket.on('message', (data) => {
      said = String(data);
      socket.close(1000);
    });
    socket.on('close', (code) => resolve({ said, code }));
    socket.on('error', reject);
  });
}

const BUN = `
import { YAML } from 'bun';
import greeting from './greeting.json';
Bun.serve({
  routes: { '/hi/:name': (request) => Response.json({ ...greeting, name: request.params.name, bun: Bun.version, env: Bun.env.WHO }) },
  fetch(request, server) {
    if (server.upgrade(request, { data: 1 })) return;
    console.log('at', new URL(request.url).pathname);
    return new Response(Object.keys(YAML.parse('a: 1')).join());
  },
  websocket: { message: (ws, text) => void ws.send(text + ' polo') },
});
`;
const DENO = `
import { greet } from '~/greet.ts';
import { join } from 'path';
Deno.serve((request, info) => {
  if (request.headers.get('upgrade') === 'websocket') {
    const { socket, response } = Deno.upgradeWebSocket(request);
    socket.onmessage = (event) => socket.send(event.data + ' polo');
    return response;
  }
  console.log('at', new URL(request.url).pathname);
  return Response.json({ said: greet(Deno.env.get('WHO')), deno: Deno.version.deno, client: info.remoteAddr.hostname, joined: join('a', 'b') });
});
`;

describe('Bun and Deno (docker)', () => {
  beforeAll(() => buildRuntimes('bun', 'deno'), BUILD_TIMEOUT_MS);
  const platform = usePlatform({ driver: 'docker' });
  const view = async (name: string) =>
    FunctionView.parse(JSON.parse((await platform().fnOk(['describe', name, '--json'])).stdout)).revision;

  it('Bun.serve: routes, fetch, a WebSocket, logs; told by bun.lock', async () => {
    const folder = project({ 'index.ts': BUN, 'greeting.json': '{"said":"hi"}', 'bun.lock': '{}' });
    await platform().fnOk(['deploy', folder, '--name', 'with-bun', '--env', 'WHO=you']);
    expect(await view('with-bun')).toMatchObject({ form: 'server', settings: { runtime: 'bun', concurrency: 50 } });
    const hi = await platform().call('/with-bun/hi/bob');
    expect(hi.json()).toMatchObject({ said: 'hi', name: 'bob', env: 'you', bun: expect.stringMatching(/^\d+\./) as string });
    expect((await platform().call('/with-bun/else')).text).toBe('a');
    expect(await echo(`${platform().url}/with-bun/ws`)).toEqual({ said: 'marco polo', code: 1000 });
    await waitFor('its log', async () => (await platform().fnOk(['logs', 'with-bun'])).stdout.includes('at /else'));
  });

  it('Deno.serve: its import map, a WebSocket, logs; told by deno.json', async () => {
    const folder = project({
      'main.ts': DENO,
      'lib/greet.ts': 'export const greet = (who?: string): string => `hi ${who}`;\n',
      'deno.json': '{ "imports": { "~/": "./lib/" }, /* as people write it */ }',
    });
    await platform().fnOk(['deploy', folder, '--name', 'with-deno', '--env', 'WHO=you']);
    expect(await view('with-deno')).toMatchObject({ form: 'server', settings: { runtime: 'deno' } });
    const answer = await platform().call('/with-deno/x');
    expect(answer.json()).toMatchObject({ said: 'hi you', deno: expect.stringMatching(/^\d+\./) as string, joined: 'a/b' });
    expect(await echo(`${platform().url}/with-deno/ws`)).toEqual({ said: 'marco polo', code: 1000 });
    await waitFor('its log', async () => (await platform().fnOk(['logs', 'with-deno'])).stdout.includes('at /x'));
  });

  it.each(['bun', 'deno'])('%s: a handler of the web’s kind, small memory, garbage without end', async (runtime) => {
    const source =
      'export default { fetch: () => { let n = 0; for (let i = 0; i < 400; i++) n += new Array(50_000).fill(i).length; return new Response(String(n)); } };\n';
    const folder = project({ 'index.ts': source });
    await platform().fnOk(['deploy', join(folder, 'index.ts'), '--name', `small-${runtime}`, '--runtime', runtime, '--memory', '128']);
    expect(await view(`small-${runtime}`)).toMatchObject({ form: 'fetch' });
    for (let i = 0; i < 5; i++) expect((await platform().call(`/small-${runtime}/`)).text).toBe('20000000');
  });

  it('what only a registry has is refused when it is deployed, with what to do', async () => {
    const folder = project({ 'main.ts': "import { x } from 'jsr:@std/path';\nexport default () => x;\n", 'deno.json': '{}' });
    const refused = await platform().fn(['deploy', folder, '--name', 'from-jsr']);
    expect(refused.code).toBe(1);
    expect(refused.stderr).toMatch(/jsr:@std\/path is in a registry[^]*no registry at run time/);
  });
});
