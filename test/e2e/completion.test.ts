/** Completion as the shells do it: each script in its own shell, with names from a platform. */
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SHELLS } from '../../cli/completion/script.ts';
import { type StubApi, createStubApi, listenStubApi } from '../helpers/cli-stub-api.ts';
import { ROOT } from '../helpers/root.ts';
import { type Offer, type Surroundings, shellOffers } from '../helpers/shells.ts';

const FETCH_TIMEOUT_MS = 300_000;
const MANIFEST = 'functions:\n  api: { entry: api.ts }\n  web: { entry: web.ts }\n';
const DEPLOYMENT = { bundle: `sha256:${'0'.repeat(64)}`, entry: 'index.ts', settings: { runtime: 'node' } };
const TOKEN = {
  id: 't-k3v9x0q2ab1f',
  name: 'ci $(touch pwned) `id`',
  scopes: ['deploy'],
  namespaces: ['shop'],
  createdAt: 1,
  expiresAt: null,
  revokedAt: null,
};
const QUOTA = { functions: null, memoryMib: null, concurrency: null, requestsPerSecond: null, bundleBytes: null };

/** What is typed, and all that is offered for it. */
const CASES: readonly (readonly [line: string, offered: readonly string[]])[] = [
  ['fn sec', ['secret']],
  ['fn secret ', ['delete', 'list', 'set']],
  ['fn completion ', ['bash', 'fish', 'zsh']],
  ['fn up --driver ', ['auto', 'docker', 'kubernetes', 'process']],
  ['fn up --driver=d', ['docker']],
  ['fn up --allow', ['--allow-unfiltered-egress']],
  ['fn logs hello --level w', ['warn']],
  ['fn deploy --runtime b', ['binary', 'bun']],
  ['fn logs ', ['hello']],
  ['fn logs -n shop ', ['cart', 'pay']],
  ['fn logs --follow --namespace=shop c', ['cart']],
  ['fn rm -n shop p', ['pay']],
  ['fn rollback hello ', ['1', '2']],
  ['fn traffic hello ', ['1=', '2=', 'latest=']],
  ['fn traffic hello 1=90 l', ['latest=']],
  ['fn secret delete ', ['API_KEY', 'DATABASE_URL']],
  ['fn deploy --secret D', ['DATABASE_URL']],
  ['fn token revoke ', ['t-k3v9x0q2ab1f']],
  ['fn list -n s', ['shop']],
  ['fn init python-', ['python-function', 'python-lambda']],
  ['fn context use 10.0.0.1:', ['10.0.0.1:7070']],
  ['fn whoami --context st', ['staging']],
  ['fn diff ', ['api', 'web']],
  ['fn deploy we', ['web', 'web.ts']],
  ['fn deploy --env-file se', ['settings.env']],
  ['fn invoke hello --data ', []],
];

let api: StubApi;
let surroundings: Surroundings;
const folder = mkdtempSync(join(tmpdir(), 'fn-completion-'));

beforeAll(async () => {
  api = createStubApi({ publicUrl: 'http://127.0.0.1:9' });
  for (const [namespace, name] of [
    ['default', 'hello'],
    ['default', 'hello'],
    ['shop', 'cart'],
    ['shop', 'pay'],
  ] as const)
    api.functions.deploy(namespace, name, DEPLOYMENT);
  const secret = (name: string) => ({ name, namespace: 'default', version: 1, createdAt: 1, updatedAt: 1, usedBy: [] });
  api.canned.set('GET /v1/namespaces/default/secrets', { status: 200, json: { secrets: [secret('API_KEY'), secret('DATABASE_URL')] } });
  api.canned.set('GET /v1/tokens', { status: 200, json: { tokens: [TOKEN] } });
  const view = (name: string) => ({ name, quota: QUOTA, hosts: [], usage: { functions: 1, memoryMib: 0 } });
  api.canned.set('GET /v1/namespaces', { status: 200, json: { namespaces: [view('default'), view('shop')] } });

  const bin = join(folder, 'bin');
  const work = join(folder, 'work');
  for (const path of [bin, work, join(folder, '.config/fn')]) mkdirSync(path, { recursive: true });
  writeFileSync(join(bin, 'fn'), `#!/bin/sh\nexec '${process.execPath}' '${join(ROOT, 'cli/main.ts')}' "$@"\n`, { mode: 0o755 });
  writeFileSync(join(work, 'fn.yaml'), MANIFEST);
  for (const name of ['web.ts', 'settings.env', 'README']) writeFileSync(join(work, name), '');
  const contexts = join(folder, '.config/fn/contexts.json');
  const context = { url: 'https://fn.example.com', token: 'x' };
  writeFileSync(contexts, JSON.stringify({ current: null, contexts: { '10.0.0.1:7070': context, staging: context } }));
  chmodSync(contexts, 0o600);
  surroundings = {
    script: '',
    cwd: work,
    env: {
      HOME: folder,
      PATH: `${bin}:/usr/bin:/bin`,
      FN_URL: await listenStubApi(api),
      TERM: 'xterm',
      LC_ALL: 'C.UTF-8',
      FN_COMPLETION_TIMEOUT_MS: '30000',
    },
  };
});
afterAll(() => {
  api.server.close();
  rmSync(folder, { recursive: true, force: true });
});

describe.each(SHELLS)('in %s', (shell) => {
  let offers: Offer;
  let here: Surroundings;
  beforeAll(async () => {
    offers = await shellOffers(shell);
    const script = join(folder, `completion.${shell}`);
    writeFileSync(script, (await execa(process.execPath, [join(ROOT, 'cli/main.ts'), 'completion', shell])).stdout);
    here = { ...surroundings, script };
  }, FETCH_TIMEOUT_MS);

  /** A shell may offer the whole of a word, or what is left of it. */
  const rest = (word: string): string => word.replace(/^--[a-z-]+=|^10\.0\.0\.1:(?=.)/, '');

  it.each(CASES)('%j', async (line, offered) => {
    expect((await offers(line, here)).map(rest)).toEqual(offered.map(rest));
  });

  it('every command is a first word', async () => {
    const { COMMANDS } = await import('../../cli/commands/index.ts');
    const words = [...new Set(COMMANDS.map(({ name }) => name.split(' ')[0]!))];
    expect(await offers('fn ', here)).toEqual(words.toSorted());
  });

  it('every option of a command', async () => {
    expect(await offers('fn secret rm --', here)).toEqual(['--context', '--help', '--home', '--json', '--namespace', '--yes']);
  });

  it('where no platform answers, nothing is offered and nothing is said', async () => {
    const nowhere = { ...here, env: { ...here.env, FN_URL: 'http://127.0.0.1:9' } };
    expect(await offers('fn logs ', nowhere)).toEqual([]);
  });
});
