/**
 * Bundles each program into one file of dist/: Node starts a bundle in a third of the time that it
 * takes to strip the types of a hundred sources, and in less memory. `./fn` runs this when a source
 * is newer than dist/.stamp.
 */
import { mkdir, rename, rm, utimes, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { BuildOptions, Plugin } from 'esbuild';
import { PROGRAMS, root as ownRoot } from './root.ts';

/**
 * What dockerode loads and never uses on a unix or TCP socket: SSH, BuildKit sessions over gRPC. Left
 * out, the controller is some 20 MB smaller. Whoever does reach for one is told so.
 */
const UNUSED_PACKAGES = ['ssh2', '@grpc/grpc-js', '@grpc/proto-loader', 'protobufjs', 'cpu-features'];

const stubUnused: Plugin = {
  name: 'stub-unused',
  setup(build) {
    const names = UNUSED_PACKAGES.map((name) => name.replace('/', '\\/')).join('|');
    build.onResolve({ filter: new RegExp(`^(?:${names})(?:\\/|$)`) }, ({ path }) => ({ path, namespace: 'stub' }));
    build.onLoad({ filter: /.*/, namespace: 'stub' }, ({ path }) => ({
      // Packages take properties when they load (`require('ssh2').Client`), so it is the use that throws.
      contents: `const unused = new Proxy(function () {}, {
        get: (_, key) => (key === '__esModule' || typeof key === 'symbol' ? undefined : unused),
        apply: () => refuse(),
        construct: () => refuse(),
      });
      function refuse() {
        throw new Error(${JSON.stringify(`${path} is not part of this build of fn: an engine is reached over a unix or TCP socket only`)});
      }
      module.exports = unused;`,
    }));
  },
};

/**
 * OpenTelemetry's SDK is a bundle of its own beside the programs, which import it where it is configured:
 * within them it would be read, if not run, at every start.
 */
const ownBundles: Plugin = {
  name: 'own-bundles',
  setup(build) {
    build.onResolve({ filter: /telemetry-sdk\.ts$/ }, ({ kind }) =>
      kind === 'dynamic-import' ? { path: './telemetry.mjs', external: true } : undefined,
    );
  },
};

const OPTIONS = {
  bundle: true,
  write: false,
  platform: 'node',
  format: 'esm',
  target: 'node24',
  keepNames: true,
  // Finds its own executable by the place of its package, so it stays one.
  external: ['esbuild'],
  plugins: [stubUnused, ownBundles],
  legalComments: 'none',
  logLevel: 'warning',
  // CommonJS packages inside an ES module need a require of their own.
  banner: { js: "import { createRequire as __fnCreateRequire } from 'node:module';\nconst require = __fnCreateRequire(import.meta.url);" },
} satisfies BuildOptions;

/** Bundles all programs of the clone in `root`. Safe to run twice at once: every file comes by rename. */
export async function build(root: string = ownRoot): Promise<void> {
  const startedAt = new Date();
  const esbuild = await import('esbuild');
  const dist = join(root, 'dist');
  const entryPoints = Object.entries(PROGRAMS).map(([out, file]) => ({ in: join(root, file), out }));
  const { outputFiles } = await esbuild.build({
    ...OPTIONS,
    absWorkingDir: root,
    entryPoints,
    outdir: dist,
    outExtension: { '.js': '.mjs' },
  });
  await mkdir(dist, { recursive: true });
  // Compiled code of bundles that are no more: it would grow with every change.
  await rm(join(dist, '.compile-cache'), { recursive: true, force: true });
  for (const file of outputFiles) await replaceFile(file.path, file.contents);
  const stamp = join(dist, '.stamp');
  await replaceFile(stamp, '', startedAt);
}

/** `mtime`: when the sources were read; one that is edited during the build must count as newer. */
async function replaceFile(path: string, contents: Uint8Array | string, mtime?: Date): Promise<void> {
  const temporary = join(dirname(path), `.${basename(path)}.${process.pid}`);
  await writeFile(temporary, contents);
  if (mtime) await utimes(temporary, mtime, mtime);
  await rename(temporary, path);
}

if (import.meta.main) {
  try {
    await build();
  } catch (error) {
    // esbuild has said what and where; its own stack says nothing more.
    const told = error instanceof Error && 'errors' in error;
    process.stderr.write(`error: fn itself does not build${told ? '' : `: ${error instanceof Error ? error.message : String(error)}`}\n`);
    process.exit(1);
  }
  // esbuild's child would keep this process for a while.
  process.exit(0);
}
