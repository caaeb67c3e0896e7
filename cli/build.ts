/**
 * Bundles the programs into dist/: Node starts a bundle in a third of the time that it
 * takes to strip the types of a hundred sources, and in less memory. `./fn` runs this when a source
 * is newer than dist/.stamp.
 */
import { mkdir, readFile, readdir, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { BuildOptions, Plugin } from 'esbuild';
import { PROGRAMS, root as ownRoot } from './root.ts';

/**
 * What dockerode loads and never uses on a unix or TCP socket: SSH, BuildKit sessions over gRPC. Left
 * out, the controller is some 20 MB smaller. Whoever does reach for one is told so.
 */
const UNUSED_PACKAGES = ['ssh2', '@grpc/grpc-js', '@grpc/proto-loader', 'protobufjs', 'cpu-features'];

const leaveOutUnused: Plugin = {
  name: 'leave-out-unused',
  setup(build) {
    const names = UNUSED_PACKAGES.map((name) => name.replace('/', '\\/')).join('|');
    build.onResolve({ filter: new RegExp(`^(?:${names})(?:\\/|$)`) }, ({ path }) => ({ path, namespace: 'unused' }));
    build.onLoad({ filter: /.*/, namespace: 'unused' }, ({ path }) => ({
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

/** The Kafka client reads its WebAssembly (checksums, decompression) from a file beside it: in a bundle it is text. */
const inlineWasm: Plugin = {
  name: 'inline-wasm',
  setup(build) {
    build.onLoad({ filter: /@platformatic\/wasm-utils\/dist\/index\.js$/ }, async ({ path }) => {
      const [code, wasm] = await Promise.all([readFile(path, 'utf8'), readFile(join(dirname(path), 'native.wasm'), 'base64')]);
      const contents = code.replace("readFileSync(new URL('../dist/native.wasm', import.meta.url))", `Buffer.from('${wasm}', 'base64')`);
      if (contents === code) throw new Error(`${path} reads its WebAssembly in another way than it did: see inlineWasm`);
      return { contents, loader: 'js' };
    });
  },
};

const OPTIONS = {
  bundle: true,
  platform: 'node',
  format: 'esm',
  target: 'node24',
  keepNames: true,
  // Finds its own executable by the place of its package, so it stays one.
  external: ['esbuild'],
  plugins: [leaveOutUnused, ownBundles, inlineWasm],
  legalComments: 'none',
  logLevel: 'warning',
  // CommonJS packages inside an ES module need a require of their own.
  banner: { js: "import { createRequire as __fnCreateRequire } from 'node:module';\nconst require = __fnCreateRequire(import.meta.url);" },
} satisfies BuildOptions;

/** Parts of earlier builds are kept so long: a `fn dev` or `fn up` that runs may still load one. */
const OLD_PARTS_MS = 24 * 3_600_000;
const PART = /^part-.+\.mjs$/;

/**
 * What is asked of esbuild: the CLI in parts, so that a command reads its own and those that it needs
 * (`fn --version` 200 kB of 2.5 MB); so too controller and dispatcher, which load a store's or a broker's client only
 * where one is used; the others, which live long, as one file each.
 */
export function bundles(root: string): BuildOptions[] {
  const { cli, controller, dispatcher, ...others } = PROGRAMS;
  const inParts = { splitting: true, chunkNames: 'part-[name]-[hash]' };
  const common = { ...OPTIONS, absWorkingDir: root, outdir: join(root, 'dist'), outExtension: { '.js': '.mjs' } };
  const points = (programs: Readonly<Record<string, string>>) =>
    Object.entries(programs).map(([out, file]) => ({ in: join(root, file), out }));
  return [
    { ...common, entryPoints: points({ cli }), ...inParts },
    { ...common, entryPoints: points({ controller, dispatcher }), ...inParts },
    { ...common, entryPoints: points(others) },
  ];
}

/** Bundles all programs of the clone in `root`. Safe to run twice at once: every file comes by rename. */
export async function build(root: string = ownRoot): Promise<void> {
  const startedAt = new Date();
  const esbuild = await import('esbuild');
  const dist = join(root, 'dist');
  const built = await Promise.all(bundles(root).map((options) => esbuild.build({ ...options, write: false })));
  await mkdir(dist, { recursive: true });
  // Compiled code of bundles that are no more: it would grow with every change.
  await rm(join(dist, '.compile-cache'), { recursive: true, force: true });
  // A program comes after the parts that it names.
  const files = built
    .flatMap(({ outputFiles }) => outputFiles)
    .toSorted((one, other) => Number(isPart(other.path)) - Number(isPart(one.path)));
  for (const file of files) await replaceFile(file.path, file.contents);
  await removeOldParts(dist, new Set(files.map(({ path }) => basename(path))), startedAt);
  const stamp = join(dist, '.stamp');
  await replaceFile(stamp, '', startedAt);
}

const isPart = (path: string): boolean => PART.test(basename(path));

async function removeOldParts(dist: string, current: ReadonlySet<string>, now: Date): Promise<void> {
  for (const name of await readdir(dist)) {
    if (!isPart(name) || current.has(name)) continue;
    const path = join(dist, name);
    // Another build beside this one may have been faster.
    const { mtimeMs } = await stat(path).catch(() => ({ mtimeMs: now.getTime() }));
    if (now.getTime() - mtimeMs > OLD_PARTS_MS) await rm(path, { force: true });
  }
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
