import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { dirname, join } from 'node:path';
import { Readable } from 'node:stream';
import { gunzipSync } from 'node:zlib';
import { extract } from 'tar-stream';
import { afterEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { temporaryFolder } from '../../test/helpers/cli.ts';
import { findSource } from '../source.ts';
import { bundlePython } from './python.ts';
import type { Bundle } from './types.ts';

afterEach(() => vi.unstubAllEnvs());

function project(files: Record<string, string>): string {
  const folder = temporaryFolder(onTestFinished);
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), text);
  }
  return folder;
}

const said: string[] = [];
async function bundle(path: string): Promise<Bundle> {
  said.length = 0;
  const source = findSource(path, '/');
  expect(source.runtime).toBe('python');
  return await bundlePython({
    source,
    cwd: '/',
    assets: [],
    say: (line) => said.push(line),
    signal: AbortSignal.timeout(60_000),
  });
}

async function filesOf({ bytes }: Bundle): Promise<Map<string, string>> {
  const files = new Map<string, string>();
  const reader = Readable.from([gunzipSync(bytes)]).pipe(extract());
  for await (const entry of reader) {
    const chunks: Buffer[] = [];
    for await (const chunk of entry as AsyncIterable<Buffer>) chunks.push(chunk);
    files.set(entry.header.name, Buffer.concat(chunks).toString());
  }
  return files;
}
const namesOf = async (made: Bundle): Promise<string[]> => [...(await filesOf(made)).keys()].sort();

describe('a folder', () => {
  it('goes along but for what is never deployed, and gives the same bytes again', async () => {
    const folder = project({
      'app.py': 'app = 1',
      'lib/a.py': '',
      'templates/index.html': '<p>',
      'tests/test_a.py': '',
      '__pycache__/app.cpython-311.pyc': 'x',
      '.venv/lib/x.py': '',
      '.git/config': '',
      '.env': 'SECRET=1',
      'fn.yaml': 'functions: {}',
    });
    const made = await bundle(folder);
    expect(made.entry).toBe('app.py');
    expect(await namesOf(made)).toEqual(['app.py', 'lib/a.py', 'templates/index.html', 'tests/test_a.py']);
    expect((await bundle(folder)).digest).toBe(made.digest);
  });

  it('names its entry by the usual names, and JavaScript before Python', async () => {
    expect((await bundle(project({ 'handler.py': '', 'app.py': '' }))).entry).toBe('app.py');
    expect((await bundle(project({ 'src/main.py': '' }))).entry).toBe('src/main.py');
    expect(findSource(project({ 'index.js': '', 'main.py': '' }), '/').runtime).toBe('node');
  });

  it('leaves out a link to nothing, and says so', async () => {
    const folder = project({ 'main.py': '' });
    symlinkSync('../../gone.js', join(folder, 'lost.js'));
    const made = await bundle(folder);
    expect(await namesOf(made)).toEqual(['main.py']);
    expect(made.warnings).toEqual([expect.stringContaining('lost.js is a link to what is not there')]);
  });

  it('refuses a link that leads out of it', async () => {
    const folder = project({ 'main.py': '' });
    symlinkSync('/etc', join(folder, 'secrets'));
    await expect(bundle(folder)).rejects.toThrow(/secrets is a link that leads out/);
  });
});

describe('a file', () => {
  it('goes along with what it imports beside itself, and nothing else', async () => {
    const folder = project({
      'main.py': 'import os, one\nfrom two import x\nif True:\n    from . import three\nimport pack.deep as d\nimport gone',
      'one.py': 'import four',
      'two.py': '',
      'three.py': '',
      'four.py': 'import main',
      'pack/__init__.py': '',
      'pack/deep.py': 'import five',
      'five.py': '',
      'other.py': '',
      'notes.txt': '',
    });
    const made = await bundle(join(folder, 'main.py'));
    expect(await namesOf(made)).toEqual([
      'five.py',
      'four.py',
      'main.py',
      'one.py',
      'pack/__init__.py',
      'pack/deep.py',
      'three.py',
      'two.py',
    ]);
  });

  it('may name the object that is meant', async () => {
    const folder = project({ 'app.py': 'application = 1' });
    const made = await bundle(`${join(folder, 'app.py')}:site.application`);
    expect((await filesOf(made)).get('fn.json')).toBe('{"object":"site.application"}\n');
    expect(made.entry).toBe('app.py');
  });
});

/** A wheel: a zip whose RECORD nothing checks. */
function wheel(folder: string, name: string, files: Record<string, string>): void {
  const info = `${name}-1.0.dist-info`;
  const all = {
    ...files,
    [`${info}/METADATA`]: `Metadata-Version: 2.1\nName: ${name}\nVersion: 1.0\n`,
    [`${info}/WHEEL`]: 'Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n',
    [`${info}/RECORD`]: [...Object.keys(files), `${info}/METADATA`, `${info}/WHEEL`, `${info}/RECORD`]
      .map((file) => `${file},,\n`)
      .join(''),
  };
  const script =
    'import json,sys,zipfile\nz=zipfile.ZipFile(sys.argv[1],"w")\nfor n,t in json.loads(sys.stdin.read()).items(): z.writestr(n,t)\nz.close()';
  execFileSync('python3', ['-c', script, join(folder, `${name}-1.0-py3-none-any.whl`)], { input: JSON.stringify(all) });
}

/** PEP 503, for what is in a folder. */
async function simpleIndex(folder: string): Promise<{ url: string; requests: string[] }> {
  const requests: string[] = [];
  const server = createServer((req, res) => {
    const path = decodeURIComponent(req.url ?? '/');
    requests.push(path);
    const file = /^\/files\/([\w.-]+\.whl)$/.exec(path)?.[1];
    if (file !== undefined) return void res.end(readFileSync(join(folder, file)));
    const name = /^\/simple\/([\w-]+)\/$/.exec(path)?.[1];
    const found = readdirSync(folder).filter((one) => one.startsWith(`${name}-`));
    if (name === undefined || found.length === 0) return void res.writeHead(404).end();
    res.setHeader('content-type', 'text/html').end(found.map((one) => `<a href="/files/${one}">${one}</a>`).join(''));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void server.close());
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/simple/`, requests };
}

describe('requirements.txt', () => {
  it('is installed from the index, once, and without what differs each time', async () => {
    const wheels = temporaryFolder(onTestFinished);
    wheel(wheels, 'tiny', { 'tiny/__init__.py': 'answer = 42\n', 'tiny-1.0.data/scripts/tiny-tool': '#!python\n' });
    const index = await simpleIndex(wheels);
    vi.stubEnv('PIP_INDEX_URL', index.url);
    vi.stubEnv('XDG_CACHE_HOME', temporaryFolder(onTestFinished));
    vi.stubEnv('PIP_CONFIG_FILE', '/dev/null');
    vi.stubEnv('PIP_NO_CACHE_DIR', '1');
    const folder = project({ 'main.py': 'import tiny', 'requirements.txt': 'tiny==1.0\n' });
    const made = await bundle(folder);
    const files = await filesOf(made);
    expect(files.get('site-packages/tiny/__init__.py')).toBe('answer = 42\n');
    expect(files.has('site-packages/tiny-1.0.dist-info/METADATA')).toBe(true);
    const others = [...files.keys()].filter((name) => /RECORD|INSTALLER|REQUESTED|direct_url|\/bin\//.test(name));
    expect(others).toEqual([]);
    expect(said).toEqual(['installing the packages of requirements.txt (pip)']);
    const { length } = index.requests;
    expect(length).toBeGreaterThan(0);
    expect((await bundle(folder)).digest).toBe(made.digest);
    expect(index.requests).toHaveLength(length);
    writeFileSync(join(folder, 'requirements.txt'), 'tiny==1.0\nabsent\n');
    await expect(bundle(folder)).rejects.toMatchObject({
      message: 'the packages of requirements.txt could not be installed',
      hint: expect.stringContaining('Only wheels for Python 3.11') as string,
    });
  });

  it('says so where no index answers, and what can be done', async () => {
    vi.stubEnv('PIP_INDEX_URL', 'http://127.0.0.1:9/simple/');
    vi.stubEnv('XDG_CACHE_HOME', temporaryFolder(onTestFinished));
    vi.stubEnv('PIP_CONFIG_FILE', '/dev/null');
    await expect(bundle(project({ 'main.py': '', 'requirements.txt': 'flask\n' }))).rejects.toMatchObject({
      message: 'the packages of requirements.txt could not be fetched: no package index answers',
      hint: expect.stringContaining('pip install --target site-packages') as string,
    });
  });

  it('is left alone where the packages are there already', async () => {
    vi.stubEnv('PIP_INDEX_URL', 'http://127.0.0.1:9/simple/');
    const folder = project({ 'main.py': '', 'requirements.txt': 'tiny\n', 'vendor/tiny.py': '' });
    expect(await namesOf(await bundle(folder))).toEqual(['main.py', 'requirements.txt', 'vendor/tiny.py']);
    expect(said.join()).toMatch(/requirements\.txt is left alone: the packages are in vendor/);
    expect(await namesOf(await bundle(join(folder, 'main.py')))).toEqual(['main.py', 'vendor/tiny.py']);
  });
});
