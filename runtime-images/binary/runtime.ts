/** The image of the runtime `binary`: the libraries of the base, and the shim, a static program that is built here. */
import { copyFile, mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { INSTANCE_UID } from '../builder/definition.ts';
import { debianArch, fetchPackages, fetchTool, VersionGone } from '../builder/debian.ts';
import { lockDrift, lockFor, parseLock, type LockedPackage } from '../builder/lock.ts';
import { builtProgram, runTool } from '../builder/programs.ts';
import { COMMON, type FetchContext, type RuntimeDefinition } from '../builder/runtime.ts';

const SOURCES = ['child.go', 'code.go', 'control.go', 'go.mod', 'limits.go', 'logs.go', 'main.go', 'proxy.go', 'termination.go'] as const;
const COMPILER_PACKAGES = ['golang-1.19-go', 'golang-1.19-src'] as const;
/** Without paths, times and ids in it, the same sources give the same bytes. */
const FLAGS = ['build', '-trimpath', '-buildvcs=false', '-ldflags=-s -w -buildid='] as const;

export const binary: RuntimeDefinition = {
  ...COMMON,
  name: 'binary',
  title: 'its root file system, the shim',
  shim: [],
  config: {
    User: `${INSTANCE_UID}:${INSTANCE_UID}`,
    Env: ['PATH=/usr/local/bin:/usr/bin:/bin', 'HOME=/tmp', 'LANG=C.UTF-8'],
    Entrypoint: ['/fn/shim'],
    Cmd: [],
    WorkingDir: '/tmp',
    StopSignal: 'SIGTERM',
  },
  version: () => '1.0.0',
  programs: (root) => [
    builtProgram(root, 'binary', {
      target: 'fn/shim',
      sources: SOURCES,
      recipe: `${COMPILER_PACKAGES.join(' ')} ${FLAGS.join(' ')}`,
      build,
    }),
  ],
};

/** Builds with Debian's Go, which is unpacked for this build alone: nothing is installed, and no module is fetched. */
async function build(folder: string, output: string, context: FetchContext): Promise<void> {
  const goRoot = await compiler(folder, context);
  const source = join(context.work, 'go-source');
  await mkdir(source, { recursive: true });
  for (const name of SOURCES) await copyFile(join(folder, name), join(source, name));
  await runTool(join(goRoot, 'bin', 'go'), [...FLAGS, '-o', output, '.'], {
    cwd: source,
    env: {
      PATH: process.env.PATH,
      HOME: context.work,
      GOROOT: goRoot,
      GOPATH: join(context.work, 'go-path'),
      GOCACHE: join(context.work, 'go-cache'),
      GOFLAGS: '-mod=mod',
      GOPROXY: 'off',
      CGO_ENABLED: '0',
    },
  });
}

/** Throws NoDebian on a machine that is not Debian, and an Error where apt cannot fetch. */
async function compiler(folder: string, { say, work }: FetchContext): Promise<string> {
  say('binary: fetching the Go compiler (80 MB, from Debian; it is not installed)');
  const locked = lockFor(parseLock(await readFile(join(folder, 'compiler.lock'), 'utf8')), debianArch(), COMPILER_PACKAGES);
  const debs = await fetchCompiler(locked, work);
  const drift = lockDrift(locked, debs);
  if (drift.length > 0) say(`warning: the shim is built with another compiler than compiler.lock names: ${drift.join('; ')}`);
  const root = join(work, 'go');
  for (const { path } of debs) await runTool('dpkg-deb', ['-x', path, root], { cwd: work });
  return join(root, 'usr', 'lib', 'go-1.19');
}

async function fetchCompiler(locked: LockedPackage[], work: string): Promise<Awaited<ReturnType<typeof fetchPackages>>> {
  // mmdebstrap would make a whole root of them: apt is on every Debian that has it.
  const tool = fetchTool('') satisfies 'apt' | 'mmdebstrap';
  try {
    return await fetchPackages(COMPILER_PACKAGES, locked, join(work, 'go-locked'), tool);
  } catch (error) {
    if (!(error instanceof VersionGone)) throw error;
    return await fetchPackages(COMPILER_PACKAGES, null, join(work, 'go-any'), tool);
  }
}
