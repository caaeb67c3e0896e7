/** A canary secret: its function gets it, and it is found nowhere else. On docker, through the real stack. */
import { randomBytes } from 'node:crypto';
import { lstatSync, readdirSync, readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { execa } from 'execa';
import { describe, expect, it } from 'vitest';
import { freePort } from '../helpers/platform.ts';
import { usePlatform } from '../helpers/suite.ts';
import { waitFor } from '../helpers/wait.ts';

const apiPort = await freePort();
const canary = () => `canary-${randomBytes(16).toString('hex')}`;

/** Tells the hash of what it got, so that the value itself passes through nothing on its way to the test. */
const TELL = `import { createHash } from 'node:crypto';
const hash = (text: string | undefined) => createHash('sha256').update(text ?? 'nothing').digest('hex');
export default (request: Request) => {
  console.log('asked for', new URL(request.url).pathname);
  if (new URL(request.url).pathname.endsWith('/throw')) throw new Error('on purpose');
  return new Response(hash(process.env.API_KEY));
};
`;

async function sha256(text: string): Promise<string> {
  return Buffer.from(await crypto.subtle.digest('SHA-256', Buffer.from(text))).toString('hex');
}

/** The forms that a value may be found in: as it is, and as encodings write it at any offset. */
function formsOf(value: string): string[] {
  const inner = [0, 1, 2].map((offset) => {
    const encoded = Buffer.from(`${'x'.repeat(offset)}${value}`).toString('base64');
    // Without what the bytes before and after it have a part in.
    return encoded.slice(offset === 0 ? 0 : 4, -4);
  });
  return [value, ...inner, Buffer.from(value).toString('hex')];
}

const holds = (bytes: Buffer | string, value: string): boolean => formsOf(value).some((form) => bytes.includes(form));

/** Files below a folder that hold the value; sockets and the like have nothing to read. */
function filesWith(folder: string, value: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .map((name) => join(folder, name))
    .filter((path) => {
      try {
        return lstatSync(path).isFile() && holds(readFileSync(path), value);
      } catch (error) {
        // Logs are cut and instances end while we look.
        if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return false;
        throw error;
      }
    });
}

/** Processes of this machine that have the value in their environment or on their command line. */
function processesWith(value: string): string[] {
  return readdirSync('/proc').filter((pid) => {
    if (!/^\d+$/.test(pid)) return false;
    return ['environ', 'cmdline'].some((file) => {
      try {
        return holds(readFileSync(join('/proc', pid, file)), value);
      } catch {
        // It has ended, or is a kernel's own.
        return false;
      }
    });
  });
}

describe('a secret', () => {
  const platform = usePlatform({ driver: 'docker', env: { FN_LOG_LEVEL: 'debug' }, upFlags: ['--api', `127.0.0.1:${apiPort}`] });
  const first = canary();
  const second = canary();
  const plain = canary();
  /** All that commands and answers said. */
  const said: string[] = [];

  const fn = async (args: string[], input?: string) => {
    const result = await platform().fn(args, input === undefined ? {} : { input });
    said.push(result.stdout, result.stderr);
    return result;
  };
  const token = () => readFileSync(join(platform().home, 'token'), 'utf8').trim();
  const api = async (method: string, path: string, body?: string) => {
    const headers = { authorization: `Bearer ${token()}`, 'content-type': 'application/json' };
    const answer = await fetch(`http://127.0.0.1:${apiPort}${path}`, { method, headers, ...(body === undefined ? {} : { body }) });
    said.push(await answer.text(), JSON.stringify([...answer.headers]));
    return answer.status;
  };
  const tells = async () => (await platform().call('/tell')).text;
  /** Names of all containers of this home, and all that docker knows of them. */
  const inspected = async () => {
    const { stdout: names } = await execa('docker', ['ps', '-a', '--filter', `name=${platform().homeId}`, '--format', '{{.Names}}']);
    const list = names.split('\n').filter((name) => name !== '');
    const [inspect, logs] = await Promise.all([
      execa('docker', ['inspect', ...list]),
      Promise.all(list.map((name) => execa('docker', ['logs', name], { reject: false, all: true }))),
    ]);
    return { list, text: [inspect.stdout, ...logs.map(({ all }) => all)].join('\n') };
  };

  it('that is not set keeps a function that names it from being deployed, and is named', async () => {
    const refused = await platform().deploy('tell', TELL, { flags: ['--secret', 'API_KEY'], mayFail: true });
    expect(refused.code).toBe(2);
    expect(refused.stderr).toContain('there is no secret API_KEY');
  });

  it('reaches the function that names it, and no other', async () => {
    expect((await fn(['secret', 'set', 'API_KEY'], first)).code).toBe(0);
    await platform().deploy('tell', TELL, { flags: ['--secret', 'API_KEY', '--env', `PLAIN=${plain}`] });
    await platform().deploy('other', TELL);
    expect(await tells()).toBe(await sha256(first));
    expect((await platform().call('/other')).text).toBe(await sha256('nothing'));
  });

  it('is in no answer, not even to what is wrong with it', async () => {
    const path = '/v1/namespaces/default/secrets';
    expect(await api('PUT', `${path}/API_KEY`, `{"value": "${first}`)).toBe(400);
    expect(await api('PUT', `${path}/API_KEY`, JSON.stringify({ value: { nested: first } }))).toBe(422);
    expect(await api('PUT', `${path}/API_KEY`, JSON.stringify({ value: first, [first]: 1 }).replace(`"${first}":1`, '"other":1'))).toBe(
      422,
    );
    expect(await api('PUT', `${path}/API_KEY`, JSON.stringify({ value: first.repeat(2_000) }))).toBe(422);
    expect(await api('PUT', `${path}/API_KEY`, JSON.stringify({ value: first.repeat(40_000) }))).toBe(413);
    expect(await api('PUT', `${path}/9`, JSON.stringify({ value: first }))).toBe(422);
    for (const get of [
      path,
      `${path}/API_KEY`,
      '/v1/functions',
      '/v1/namespaces/default/functions/tell/revisions',
      '/v1/status',
      '/v1/namespaces/default/functions/tell/calls',
      '/v1/audit',
      '/v1/openapi.json',
    ])
      expect(await api('GET', get)).toBe(200);
    expect((await fn(['secret', 'set', `API_KEY=${first}x`])).code).toBe(2);
    const failed = await platform().call('/tell/throw');
    said.push(failed.text, JSON.stringify(failed.rawHeaders));
    const request = String(failed.headers['x-request-id']);
    // A gateway that stands still for half a second is not waited for by who explains a call.
    await waitFor('the call to be known', async () => (await fn(['why', request])).code === 0);
    for (const command of [
      ['list'],
      ['describe', 'tell'],
      ['revisions', 'tell'],
      ['secret', 'list'],
      ['audit'],
      ['logs', 'tell'],
      ['why', request],
    ])
      expect({ command, code: (await fn([...command, '--json'])).code }).toEqual({ command, code: 0 });
    expect(said.join().length).toBeGreaterThan(10_000);
    expect(said.filter((text) => holds(text, first))).toEqual([]);
    // The plain variable is a part of the revision, and is shown: so much for what this search can find.
    expect(said.some((text) => holds(text, plain))).toBe(true);
  });

  it('of a new value is there without a deployment, and no request fails meanwhile', async () => {
    const wanted = await sha256(second);
    const old = await sha256(first);
    expect((await fn(['secret', 'set', 'API_KEY'], second)).stderr).toContain('version 2; used by tell');
    const seen: string[] = [];
    await waitFor('the new value', async () => {
      const { status, text } = await platform().call('/tell');
      seen.push(`${status} ${text}`);
      return text === wanted;
    });
    expect([`200 ${old}`, `200 ${wanted}`]).toEqual(expect.arrayContaining([...new Set(seen)]));
    const answers = await Promise.all(Array.from({ length: 20 }, tells));
    expect(new Set(answers)).toEqual(new Set([wanted]));
    const revisions = JSON.parse((await fn(['revisions', 'tell', '--json'])).stdout) as { revisions: unknown[] };
    expect(revisions.revisions).toHaveLength(1);
  });

  it('is not deleted under a function that uses it', async () => {
    expect(await fn(['secret', 'delete', 'API_KEY'])).toMatchObject({ code: 1, stderr: expect.stringContaining('tell') });
    expect(await tells()).toBe(await sha256(second));
  });

  it.each([
    ['the first value', first],
    ['the new value', second],
  ])('is in no process’s environment, in nothing that docker knows, in no file of the platform: %s', async (_name, value) => {
    const { list, text } = await inspected();
    expect(list.length).toBeGreaterThan(0);
    expect(holds(text, value)).toBe(false);
    expect(processesWith(value)).toEqual([]);
    for (const folder of [platform().home, platform().runDir]) expect(filesWith(folder, value)).toEqual([]);
  });

  it('the search finds what is there', async () => {
    // The plain variable is in the store; the environment and docker are tried with what is in them.
    expect(filesWith(platform().home, plain).some((path) => /fn\.db/.test(path))).toBe(true);
    const child = execa('sleep', ['30'], { env: { CONTROL: plain }, reject: false });
    try {
      expect(processesWith(plain)).toContain(String(child.pid));
    } finally {
      child.kill();
      await child;
    }
    expect(holds((await inspected()).text, platform().homeId)).toBe(true);
    expect(holds(`..${Buffer.from(`ab${plain}`).toString('base64')}`, plain)).toBe(true);
  });

  it('is safe with its key: without it the platform says so, and with it all is well again', async () => {
    const keyFile = join(platform().home, 'secret.key');
    const before = await platform().pid('controller');
    renameSync(keyFile, `${keyFile}.away`);
    try {
      process.kill(before, 'SIGKILL');
      await waitFor('the next controller', async () => (await platform().pid('controller')) !== before);
      for (const run of [
        () => fn(['secret', 'set', 'ANOTHER'], 'x'),
        () => platform().deploy('tell', TELL, { flags: ['--secret', 'API_KEY'], mayFail: true }),
      ])
        expect(await run()).toMatchObject({ code: 1, stderr: expect.stringMatching(/secret\.key is not there|store-unavailable/) });
      // What runs has its value; what needs none is not held up.
      expect(await tells()).toBe(await sha256(second));
      expect((await platform().call('/other')).status).toBe(200);
    } finally {
      renameSync(`${keyFile}.away`, keyFile);
    }
    expect((await fn(['secret', 'set', 'ANOTHER'], 'x')).code).toBe(0);
    await platform().deploy('tell', TELL, { flags: ['--secret', 'API_KEY'] });
    expect(await tells()).toBe(await sha256(second));
  });
});
