import { chmodSync, copyFileSync, mkdirSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { execa } from 'execa';
import { describe, expect, it, onTestFinished } from 'vitest';
import { temporaryFolder } from '../test/helpers/cli.ts';
import { root } from './root.ts';

const EARLIER = new Date(Date.UTC(2026, 0, 1));
const LATER = new Date(Date.UTC(2026, 0, 2));

/** A clone with nothing to install or to build, in a folder whose path has spaces, without Node of its own. */
function clone(): string {
  const folder = join(temporaryFolder(onTestFinished), 'my clone');
  const put = (path: string, text: string, time: Date) => {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), text);
    utimesSync(join(folder, path), time, time);
  };
  for (const file of [
    'package.json',
    'package-lock.json',
    'cli/main.ts',
    'controller/main.ts',
    'gateway/main.ts',
    'runtime-images/build.ts',
  ])
    put(file, '', EARLIER);
  put('node_modules/.package-lock.json', '', EARLIER);
  put('dist/cli.mjs', '', LATER);
  put('dist/.stamp', '', LATER);
  for (const name of ['cli', 'controller', 'gateway', 'runtime-images']) utimesSync(join(folder, name), EARLIER, EARLIER);
  copyFileSync(join(root, 'fn'), join(folder, 'fn'));
  return folder;
}

/** A PATH on which `node` is a script that tells a version and, for the rest, what it was asked. */
function path(version: string): string {
  const bin = temporaryFolder(onTestFinished);
  writeFileSync(join(bin, 'node'), `#!/bin/sh\n[ "$1" = --version ] && echo '${version}' && exit\nfor word; do echo "$word"; done\n`);
  chmodSync(join(bin, 'node'), 0o755);
  return `${bin}:/usr/bin:/bin`;
}

const run = (file: string, args: string[], PATH: string) => execa(file, args, { cwd: '/', env: { PATH }, extendEnv: false, reject: false });

describe('./fn', () => {
  it('hands over every word as it is, also through links and from elsewhere', async () => {
    const folder = clone();
    const links = temporaryFolder(onTestFinished);
    symlinkSync(join(folder, 'fn'), join(links, 'one'));
    symlinkSync('one', join(links, 'two'));
    const { stdout, exitCode } = await run(join(links, 'two'), ['deploy', 'a b', '', '$x *'], path('v24.1.0'));
    expect([exitCode, stdout]).toEqual([
      0,
      ['--disable-sigusr1', '--', join(folder, 'dist/cli.mjs'), 'deploy', 'a b', '', '$x *'].join('\n'),
    ]);
  });

  it('keeps Node from taking --env-file for its own', async () => {
    const folder = clone();
    mkdirSync(join(folder, 'node_modules/node/bin'), { recursive: true });
    symlinkSync(process.execPath, join(folder, 'node_modules/node/bin/node'));
    writeFileSync(join(folder, 'dist/cli.mjs'), 'console.log(process.argv.slice(2).join(), process.env.OF_THE_FUNCTION);\n');
    writeFileSync(join(folder, 'my.env'), 'OF_THE_FUNCTION=1\n');
    utimesSync(join(folder, 'dist/cli.mjs'), LATER, LATER);
    for (const file of [join(folder, 'my.env'), '/not/there']) {
      const { stdout } = await run(join(folder, 'fn'), ['deploy', '--env-file', file], path('v24.1.0'));
      expect(stdout).toBe(`deploy,--env-file,${file} undefined`);
    }
  });

  it('takes the Node of the clone before the machine’s', async () => {
    const folder = clone();
    mkdirSync(join(folder, 'node_modules/node/bin'), { recursive: true });
    writeFileSync(join(folder, 'node_modules/node/bin/node'), '#!/bin/sh\necho own\n', { mode: 0o755 });
    expect((await run(join(folder, 'fn'), [], path('v24.1.0'))).stdout).toBe('own');
  });

  it('builds where a source is newer than what was built', async () => {
    const folder = clone();
    const now = new Date();
    utimesSync(join(folder, 'gateway/main.ts'), now, now);
    const { stdout } = await run(join(folder, 'fn'), ['x'], path('v24.1.0'));
    expect(stdout.split('\n')).toEqual([join(folder, 'cli/build.ts'), '--disable-sigusr1', '--', join(folder, 'dist/cli.mjs'), 'x']);
  });

  it.each(['v20.1.0', 'v9.0.0', ''])('with no Node but %j says what to do', async (version) => {
    const { stderr, exitCode } = await run(join(clone(), 'fn'), [], path(version));
    expect(exitCode).toBe(1);
    expect(stderr).toMatch(/^error: fn needs Node 24 or newer; this machine has (v\d|none)/);
    expect(stderr).toContain('npm rebuild node');
  });
});
