/** `fn dev`: a project is served, follows its files, lets a debugger in, and leaves nothing behind. */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { execa } from 'execa';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { type Answer, call } from '../helpers/http.ts';
import { RUN_FOLDER, freePort } from '../helpers/platform.ts';
import { ROOT } from '../helpers/root.ts';
import { waitFor } from '../helpers/wait.ts';

/** Where the platforms of these tests have their homes. */
mkdirSync(RUN_FOLDER, { recursive: true });
const homes = mkdtempSync(join(RUN_FOLDER, 'homes-'));
afterAll(() => rmSync(homes, { recursive: true, force: true }));

const ends: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).toReversed()) await end();
});

function project(files: Record<string, string>): string {
  const folder = mkdtempSync(join(RUN_FOLDER, 'dev-'));
  ends.push(async () => rmSync(folder, { recursive: true, force: true }));
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(join(folder, name, '..'), { recursive: true });
    writeFileSync(join(folder, name), text);
  }
  return folder;
}

interface Dev {
  port: number;
  call(path: string): Promise<Answer>;
  /** What it has told so far. */
  stderr(): string;
  stdout(): string;
  told(text: string | RegExp): Promise<unknown>;
  /** Ctrl-C. Returns the exit code. */
  stop(): Promise<number | undefined>;
}

async function dev(folder: string, args: string[] = []): Promise<Dev> {
  const port = await freePort();
  const child = execa(join(ROOT, 'fn'), ['dev', '--port', String(port), ...args], {
    cwd: folder,
    env: { TMPDIR: homes },
    reject: false,
    stdin: 'ignore',
  });
  let stderr = '';
  let stdout = '';
  child.stderr!.on('data', (data: Buffer) => (stderr += data.toString()));
  child.stdout!.on('data', (data: Buffer) => (stdout += data.toString()));
  const stop = async () => {
    child.kill('SIGINT');
    return (await child).exitCode;
  };
  ends.push(async () => {
    if (child.exitCode === null) await stop();
  });
  const told = async (text: string | RegExp) => {
    try {
      await waitFor(`fn dev to say ${text}`, () => (typeof text === 'string' ? stderr.includes(text) : text.test(stderr)), {
        timeoutMs: 60_000,
      });
    } catch (cause) {
      throw new Error(`fn dev did not say ${text}, but: ${stderr}`, { cause });
    }
  };
  return { port, call: (path) => call(`http://127.0.0.1:${port}${path}`), stderr: () => stderr, stdout: () => stdout, told, stop };
}

const answers = (session: Dev, path: string, text: string) =>
  waitFor(`${path} to answer ${text}`, async () => (await session.call(path)).text === text, { timeoutMs: 60_000, everyMs: 20 });

const says = (text: string) =>
  `export default { fetch: (_request: Request, env: Record<string, string>) => { console.log('asked'); return new Response(\`${text}\`); } };\n`;

describe('fn dev', () => {
  it('serves the functions of fn.yaml, with variables and secrets from files, and follows every change', async () => {
    const folder = project({
      'fn.yaml': 'functions:\n  one:\n    entry: one.ts\n    secrets: [KEY]\n  two:\n    entry: two/index.ts\n',
      'one.ts': says('one ${env.STAGE} ${env.KEY}'),
      'two/index.ts': says('two'),
      '.env': 'STAGE=local\n',
      '.secrets': 'KEY=sesame\n',
    });
    const session = await dev(folder);
    await session.told(/two +ready/);
    await session.told(/one +ready/);
    expect((await session.call('/one')).text).toBe('one local sesame');
    expect((await session.call('/two/any/path')).text).toBe('two');
    await waitFor('its log', () => /one +asked/.test(session.stdout()), { timeoutMs: 60_000 });

    writeFileSync(join(folder, 'two/index.ts'), says('two, changed'));
    await answers(session, '/two', 'two, changed');
    await session.told(/two +reloaded in \d/);
    expect(session.stderr()).not.toMatch(/one +reloaded/);

    // What does not build changes nothing, and says where.
    writeFileSync(join(folder, 'two/index.ts'), 'export default {\n  fetch: () => new Response(;\n};\n');
    await session.told('index.ts:2:29: Unexpected');
    expect((await session.call('/two')).text).toBe('two, changed');
    // Nor does what does not load.
    writeFileSync(join(folder, 'two/index.ts'), "throw new Error('not today');\n");
    await session.told('not today');
    expect((await session.call('/two')).text).toBe('two, changed');
    writeFileSync(join(folder, 'two/index.ts'), says('two, again'));
    await answers(session, '/two', 'two, again');

    writeFileSync(join(folder, '.env'), 'STAGE=other\n');
    await answers(session, '/one', 'one other sesame');
    writeFileSync(join(folder, '.secrets'), 'KEY=changed\n');
    await answers(session, '/one', 'one other changed');

    writeFileSync(join(folder, 'fn.yaml'), 'functions:\n  two:\n    entry: two/index.ts\n    memry: 1Gi\n');
    await session.told('fn.yaml:4:5');
    writeFileSync(join(folder, 'fn.yaml'), 'functions:\n  two:\n    entry: two/index.ts\n    routes: [/three]\n');
    await session.told(/one +removed/);
    await answers(session, '/three', 'two, again');
    expect((await session.call('/one')).status).toBe(404);

    expect(await session.stop()).toBe(130);
    await expect(session.call('/two')).rejects.toThrow(/ECONNREFUSED/);
    expect(readdirSync(homes)).toEqual([]);
  });

  it('names a secret that is in no file, and serves once it is there', async () => {
    const folder = project({
      'fn.yaml': 'functions:\n  one:\n    entry: one.ts\n    secrets: [KEY]\n',
      'one.ts': says('${env.KEY}'),
      '.secrets': '\n',
    });
    const session = await dev(folder);
    await session.told('one needs the secret KEY');
    writeFileSync(join(folder, '.secrets'), 'KEY=there\n');
    await answers(session, '/one', 'there');
    expect((await session.call('/one')).status).toBe(200);
  });

  it('lets a debugger stop at a line of the .ts file, also after a reload', async () => {
    const source = (word: string) =>
      `interface Word { text: string }\n\nexport default {\n  fetch(): Response {\n    const word: Word = { text: '${word}' };\n    return new Response(word.text);\n  },\n};\n`;
    const folder = project({ 'handler.ts': source('first'), 'package.json': '{"name":"x"}' });
    const inspect = await freePort();
    const session = await dev(folder, ['./handler.ts', '--inspect', String(inspect)]);
    await session.told('ready');
    const name = /ready in [^h]*http:\/\/127\.0\.0\.1:\d+\/([a-z0-9-]+)/.exec(session.stderr())![1]!;
    expect(await stopsAt(session, inspect, `/${name}`, join(folder, 'handler.ts'), 'first')).toBe('first');
    writeFileSync(join(folder, 'handler.ts'), source('second'));
    await session.told('reloaded');
    expect(await stopsAt(session, inspect, `/${name}`, join(folder, 'handler.ts'), 'second')).toBe('second');
  });
});

interface InspectorTarget {
  webSocketDebuggerUrl: string;
}

/** Attaches to the instance whose code holds the word: after a reload the port leads to the new one when that has said where it listens. */
async function attach(inspect: number, word: string): Promise<{ devtools: Devtools; script: Fields }> {
  for (const end = performance.now() + 60_000; performance.now() < end;) {
    const targets = await call(`http://127.0.0.1:${inspect}/json/list`).then(
      (answer) => answer.json<InspectorTarget[]>(),
      () => [],
    );
    if (targets[0]) {
      const devtools = new Devtools(new URL(targets[0].webSocketDebuggerUrl).pathname, inspect);
      const script = await scriptWith(devtools, word);
      if (script !== null) return { devtools, script };
      devtools.close();
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`no debugger of an instance with ${word}`);
}

/** The instance's own code, where it holds the word; null where it does not, or where the instance is just being replaced. */
async function scriptWith(devtools: Devtools, word: string): Promise<Fields | null> {
  try {
    await devtools.opened;
    const parsed = devtools.event('Debugger.scriptParsed', ({ url }) => String(url).endsWith('/index.mjs'));
    const [script] = await Promise.all([parsed, devtools.send('Debugger.enable')]);
    const { scriptSource } = await devtools.send('Debugger.getScriptSource', { scriptId: script.scriptId });
    return String(scriptSource).includes(word) ? script : null;
  } catch {
    // It has ended meanwhile: the next one is asked.
    return null;
  }
}

/** Sets a breakpoint at the return, calls the function, and looks at the variable when it stands there. */
async function stopsAt(session: Dev, inspect: number, path: string, file: string, word: string): Promise<string> {
  const { devtools, script } = await attach(inspect, word);
  try {
    const { scriptId, url, sourceMapURL } = script;
    const map = JSON.parse(readFileSync(fileURLToPath(new URL(String(sourceMapURL), String(url))), 'utf8')) as { sources: string[] };
    expect(map.sources).toContain(pathToFileURL(file).href);
    const { result } = await devtools.send('Debugger.searchInContent', { scriptId, query: 'new Response(word.text)' });
    const [{ lineNumber }] = result as [{ lineNumber: number }];
    await devtools.send('Debugger.setBreakpoint', { location: { scriptId, lineNumber } });
    const paused = devtools.event('Debugger.paused');
    const answer = session.call(path);
    const { callFrames } = await paused;
    const [{ callFrameId }] = callFrames as [{ callFrameId: string }];
    const seen = await devtools.send('Debugger.evaluateOnCallFrame', { callFrameId, expression: 'word.text', returnByValue: true });
    const { value } = seen.result as { value: unknown };
    await devtools.send('Debugger.resume');
    expect((await answer).text).toBe(value);
    return String(value);
  } finally {
    devtools.close();
  }
}

type Fields = Record<string, unknown>;

/** As little of the DevTools protocol as it takes. */
class Devtools {
  readonly #socket: WebSocket;
  readonly #answers = new Map<number, (result: Fields) => void>();
  readonly #events: { method: string; is: (params: Fields) => boolean; resolve: (params: Fields) => void }[] = [];
  readonly opened: Promise<unknown>;
  /** Rejects when the instance ends: what is waited for never comes then. */
  readonly #gone: Promise<never>;
  #id = 0;

  constructor(path: string, port: number) {
    this.#socket = new WebSocket(`ws://127.0.0.1:${port}${path}`);
    this.opened = new Promise((resolve, reject) => {
      this.#socket.addEventListener('open', resolve);
      this.#socket.addEventListener('error', () => reject(new Error('the inspector cannot be reached')));
    });
    this.#gone = new Promise((_resolve, reject) => {
      this.#socket.addEventListener('close', () => reject(new Error('the instance has ended')));
    });
    // Told to who waits for something of it; where nobody does, it is nothing.
    this.#gone.catch(() => {});
    this.#socket.addEventListener('message', ({ data }) => {
      const message = JSON.parse(String(data)) as { id?: number; result?: Fields; method?: string; params?: Fields };
      if (message.id !== undefined) this.#answers.get(message.id)?.(message.result ?? {});
      for (const event of this.#events)
        if (event.method === message.method && event.is(message.params ?? {})) event.resolve(message.params ?? {});
    });
  }

  send(method: string, params: Fields = {}): Promise<Fields> {
    const id = ++this.#id;
    const answer = new Promise<Fields>((resolve) => this.#answers.set(id, resolve));
    this.#socket.send(JSON.stringify({ id, method, params }));
    return Promise.race([answer, this.#gone]);
  }

  event(method: string, is: (params: Fields) => boolean = () => true): Promise<Fields> {
    const event = new Promise<Fields>((resolve) => this.#events.push({ method, is, resolve }));
    return Promise.race([event, this.#gone]);
  }

  close(): void {
    this.#socket.close();
  }
}

it('says what is wrong before anything is started', async () => {
  const folder = project({ 'fn.yaml': 'functions:\n  one: {}\n' });
  const { exitCode, stderr } = await execa(join(ROOT, 'fn'), ['dev'], { cwd: folder, reject: false });
  expect(exitCode).toBe(2);
  expect(stderr).toContain('fn.yaml:2:');
  expect(existsSync(join(folder, '.fn'))).toBe(false);
});
