import { execFile } from 'node:child_process';
import { chmodSync, cpSync, existsSync, mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { gunzipSync } from 'node:zlib';
import { extract } from 'tar-stream';
import { describe, expect, it, onTestFinished } from 'vitest';
import { temporaryFolder } from '../../test/helpers/cli.ts';
import { CliError } from '../errors.ts';
import { root } from '../root.ts';
import { findSource } from '../source.ts';
import { readElf } from './elf.ts';
import { bundleJavaScript } from './javascript.ts';
import type { Bundle } from './types.ts';

const NODE = { target: 'node24', conditions: [], plugins: () => [] };
const run = promisify(execFile);

function project(files: Record<string, string>, packages: readonly string[] = []): string {
  const folder = temporaryFolder(onTestFinished);
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), text);
  }
  if (packages.length > 0) symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
  return folder;
}

const bundle = (folder: string, assets: string[] = []) => bundleJavaScript({ source: findSource('.', folder), cwd: folder, assets }, NODE);

/** Unpacks into a folder of its own; returns the names with their modes. */
async function unpack(made: Bundle): Promise<{ folder: string; modes: Map<string, number> }> {
  const folder = temporaryFolder(onTestFinished);
  const modes = new Map<string, number>();
  const tar = extract();
  tar.end(gunzipSync(made.bytes));
  for await (const entry of tar) {
    const chunks: Buffer[] = [];
    for await (const chunk of entry as AsyncIterable<Buffer>) chunks.push(chunk);
    const path = join(folder, entry.header.name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, Buffer.concat(chunks));
    chmodSync(path, entry.header.mode ?? 0o644);
    modes.set(entry.header.name, entry.header.mode ?? 0);
  }
  return { folder, modes };
}

/** What the default export answers, in a process of its own: an addon cannot be unloaded. */
async function answer(folder: string): Promise<string> {
  const script = `import(${JSON.stringify(join(folder, 'index.mjs'))}).then(async (m) => process.stdout.write(String(await m.default())))`;
  return (await run(process.execPath, ['-e', script], { cwd: folder })).stdout;
}

async function failure(made: Promise<unknown>): Promise<CliError> {
  const error: unknown = await made.then(
    () => null,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof CliError)) throw new Error(`expected a CliError, got ${String(error)}`);
  return error;
}

describe('packages with machine code', () => {
  it('sharp goes along with what it needs on Linux, and works from the bundle alone', async () => {
    const source =
      "import sharp from 'sharp';\nexport default async () => {\n  const png = await sharp({ create: { width: 3, height: 2, channels: 3, background: 'red' } }).png().toBuffer();\n  return (await sharp(png).metadata()).width;\n};\n";
    const made = await bundle(project({ 'index.ts': source }, ['sharp']));
    const { folder, modes } = await unpack(made);
    expect(await answer(folder)).toBe('3');
    expect([...modes.keys()].filter((name) => /musl|darwin|win32|\.d\.ts$|\.md$/.test(name))).toEqual([]);
    expect(made.codeBytes).toBeLessThan(10_000);
  });

  it('bcrypt, whose prebuilt addon is found by node-gyp-build', async () => {
    const source = "import { compareSync, hashSync } from 'bcrypt';\nexport default () => compareSync('word', hashSync('word', 4));\n";
    const made = await bundle(project({ 'index.ts': source }, ['bcrypt']));
    const { folder, modes } = await unpack(made);
    expect(await answer(folder)).toBe('true');
    expect([...modes.keys()].filter((name) => name.endsWith('.node'))).toEqual([
      expect.stringContaining(`prebuilds/linux-${process.arch}/`),
    ]);
    expect(modes.has('node_modules/node-gyp-build/index.js')).toBe(true);
  });

  it('an addon of the function’s own lies beside the bundle', async () => {
    const folder = project({
      'index.cjs': "const addon = require('./build/addon.node');\nmodule.exports = () => Object.keys(addon).length > 0;\n",
    });
    mkdirSync(join(folder, 'build'));
    const prebuilt = join(root, 'node_modules/bcrypt/prebuilds', `linux-${process.arch}`);
    const addon = ['bcrypt.glibc.node', 'bcrypt.node', 'node.napi.glibc.node', 'node.napi.node']
      .map((name) => join(prebuilt, name))
      .find((path) => existsSync(path));
    if (addon === undefined) throw new Error(`no addon below ${prebuilt}`);
    cpSync(addon, join(folder, 'build/addon.node'));
    const unpacked = await unpack(await bundle(folder));
    expect([...unpacked.modes.keys()].filter((name) => name.startsWith('native/'))).toEqual([
      expect.stringMatching(/^native\/[0-9a-f]{16}-addon\.node$/),
    ]);
    expect(await answer(unpacked.folder)).toBe('true');
  });

  it('that have none for the platform are refused, with what to do', async () => {
    const folder = project({
      'index.js': "import thing from 'thing';\nexport default () => thing;\n",
      'node_modules/thing/package.json': '{"name":"thing","version":"1.0.0","main":"index.js","dependencies":{"node-gyp-build":"4"}}',
      'node_modules/thing/index.js': "module.exports = require('node-gyp-build')(__dirname);\n",
      'node_modules/thing/prebuilds/darwin-arm64/thing.node': 'machine code of another system',
    });
    const error = await failure(bundle(folder));
    expect(error.message).toMatch(/^the package thing has no machine code for the platform \(linux /);
    expect(error.hint).toContain('npm install --os=linux');
  });
});

describe('assets', () => {
  const SOURCE = { 'index.js': 'export default () => 1;\n', 'data/a.txt': 'a', 'data/deep/b.txt': 'b', 'run.sh': '#!/bin/sh\n' };

  it('go along by glob or folder, and keep whether they may be executed', async () => {
    const folder = project(SOURCE);
    chmodSync(join(folder, 'run.sh'), 0o700);
    const { folder: unpacked, modes } = await unpack(await bundle(folder, ['data', '*.sh']));
    expect([...modes].filter(([name]) => !name.startsWith('index'))).toEqual([
      ['data/a.txt', 0o644],
      ['data/deep/b.txt', 0o644],
      ['run.sh', 0o755],
    ]);
    expect(readFileSync(join(unpacked, 'data/deep/b.txt'), 'utf8')).toBe('b');
  });

  it.each([
    { assets: ['../secret'], said: 'is outside of the function’s folder'.replace('’', "'") },
    { assets: ['/etc/passwd'], said: "is outside of the function's folder" },
    { assets: ['nothing/*'], said: 'no file matches the asset nothing/*' },
  ])('$assets is refused', async ({ assets, said }) => {
    expect((await failure(bundle(project(SOURCE), assets))).message).toContain(said);
  });

  it('a link out of the folder is refused, and so is the name of the bundle itself', async () => {
    const folder = project(SOURCE);
    symlinkSync('/etc/hostname', join(folder, 'link.txt'));
    expect((await failure(bundle(folder, ['link.txt']))).message).toContain('is a link that leads out of');
    writeFileSync(join(folder, 'index.mjs'), 'export default () => 1;\n');
    expect((await failure(bundle(folder, ['index.mjs']))).message).toContain('has the name of a file that the bundle has itself');
  });
});

describe('the head of an ELF file', () => {
  it('of Node tells its machine, its loader and its libraries', () => {
    const elf = readElf(readFileSync(process.execPath));
    expect(elf).toMatchObject({ arch: process.arch, runnable: true, interpreter: expect.stringMatching(/ld-linux/) as string });
    expect(elf?.needed).toContain('libc.so.6');
    expect(statSync(process.execPath).size).toBeGreaterThan(0);
  });

  it('that is damaged is none', () => {
    const whole = readFileSync(process.execPath).subarray(0, 4_096);
    expect(readElf(Buffer.from('#!/bin/sh\n'))).toBeNull();
    for (const length of [4, 63, 80]) expect(readElf(whole.subarray(0, length))).toBeNull();
  });
});
