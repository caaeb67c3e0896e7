/**
 * Machine code in npm packages: a package that has some stays as it is, beside the bundle in
 * node_modules, with what it depends on; a single `.node` file of the function's own goes along too.
 * What is for another system, another CPU or another C library is left out; where nothing fits, it is said.
 */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, readdirSync, realpathSync } from 'node:fs';
import { basename, dirname, join, relative, sep } from 'node:path';
import type { PartialMessage, Plugin } from 'esbuild';
import { CliError } from '../errors.ts';
import type { ArchiveFile } from '../archive.ts';
import { readEntry } from './assets.ts';
import { isElf, readElf } from './elf.ts';
import { PackageFolder, nameOfSpecifier } from './packages.ts';

/** Folder of the bundle for addons that are no package's. */
const ADDONS = 'native';
/** Loaders of addons: what they load is nowhere written in the code. */
const LOADERS = new Set([
  'bindings',
  'node-gyp-build',
  'node-gyp-build-optional-packages',
  'prebuild-install',
  '@mapbox/node-pre-gyp',
  'node-pre-gyp',
]);
/** Where packages keep machine code, made here or delivered. */
const MADE = ['binding.gyp', 'prebuilds', join('build', 'Release')] as const;
/** Not needed to run: sources, types, maps, words. */
const LEFT_OUT =
  /(?:\.(?:md|markdown|map|d\.[cm]?ts|ts|c|cc|cpp|h|hpp|o|a|obj|gyp|gypi|vcxproj|tgz)|(?:^|\/)(?:\.[^/]+|Makefile|yarn\.lock|package-lock\.json))$/i;
const LEFT_OUT_FOLDERS = new Set(['.git', '.github', 'node_modules', 'test', 'tests', '__tests__', 'obj.target', '.deps']);

const describeTarget = (): string => `linux ${process.arch} with glibc`;

/** What of one function's packages is machine code. One instance per bundle. */
export class NativeCode {
  /** Packages that stay as they are, by name. */
  readonly #packages = new Map<string, PackageFolder>();
  readonly #addons = new Map<string, ArchiveFile>();

  readonly plugin: Plugin = {
    name: 'native-code',
    setup: (build) => {
      const marker = { native: true };
      build.onResolve({ filter: /^[^./]/ }, async ({ path, pluginData, ...rest }) => {
        if (pluginData === marker || path.startsWith('node:') || path.startsWith('fn:') || rest.kind === 'entry-point') return undefined;
        const resolved = await build.resolve(path, { ...rest, pluginData: marker });
        if (resolved.errors.length > 0 || resolved.external) return undefined;
        const folder = PackageFolder.of(resolved.path, nameOfSpecifier(path));
        if (folder === null || !isNative(folder)) return undefined;
        const known = this.#packages.get(folder.name);
        if (known !== undefined && known.path !== folder.path) return { errors: [twoVersions(known, folder)] };
        this.#packages.set(folder.name, folder);
        return { path, external: true };
      });
      build.onResolve({ filter: /^\.\/native\/[0-9a-f]{16}-/ }, ({ path, namespace }) =>
        namespace === 'addon' ? { path, external: true } : undefined,
      );
      build.onResolve({ filter: /\.node$/ }, async ({ path, pluginData, ...rest }) => {
        if (pluginData === marker) return undefined;
        const resolved = await build.resolve(path, { ...rest, pluginData: marker });
        return resolved.errors.length > 0 || resolved.external ? undefined : { path: resolved.path, namespace: 'addon' };
      });
      build.onLoad({ filter: /.*/, namespace: 'addon' }, ({ path }) => {
        const wrong = faultOf(path);
        if (wrong !== null)
          return { errors: [{ text: `${relative(build.initialOptions.absWorkingDir ?? '', path)} ${wrong}`, notes: [{ text: HINT() }] }] };
        return { contents: `module.exports = require(${JSON.stringify(this.#addAddon(path))});`, loader: 'js', resolveDir: dirname(path) };
      });
    },
  };

  /** What goes into the bundle. Throws CliError where a package has no code for the platform's machine. */
  files(): ArchiveFile[] {
    const placed = new Map<string, PackageFolder>();
    for (const folder of this.#packages.values()) place(folder, 'node_modules', placed);
    const files = [...placed].flatMap(([at, folder]) =>
      filesOf(folder.path).map((name) => ({ name: `${at}/${name}`, ...readEntry(join(folder.path, name)) })),
    );
    for (const folder of this.#packages.values()) checkPackage(folder, [...placed.values()]);
    return [...files, ...this.#addons.values()];
  }

  #addAddon(path: string): string {
    const { contents } = readEntry(path);
    const name = `${ADDONS}/${createHash('sha256').update(contents).digest('hex').slice(0, 16)}-${basename(path)}`;
    this.#addons.set(name, { name, contents });
    return `./${name}`;
  }
}

const HINT = (): string =>
  `The platform runs ${describeTarget()}: install the packages there, or with npm install --os=linux --cpu=${process.arch} --libc=glibc`;

function twoVersions(one: PackageFolder, other: PackageFolder): PartialMessage {
  return {
    text: `two versions of ${one.name}, which holds machine code, are needed: ${one.version} and ${other.version}; a bundle can have one`,
  };
}

/** Null where the platform can load it. */
function faultOf(path: string): string | null {
  const elf = readElf(readFileSync(path));
  if (elf === null) return 'is not a native addon for Linux';
  if (elf.arch !== process.arch) return `is a native addon for ${elf.arch ?? 'another CPU'}`;
  return elf.needed.some((name) => name.includes('musl')) ? 'is a native addon for musl, not for glibc' : null;
}

/** Whether a package has machine code, or others that hold it for each system, or loads it in a way that no bundler sees. */
function isNative(folder: PackageFolder): boolean {
  const { dependencies, optionalDependencies } = folder;
  if (Object.keys(dependencies).some((name) => LOADERS.has(name))) return true;
  if (MADE.some((name) => existsSync(join(folder.path, name)))) return true;
  return Object.keys(optionalDependencies).some((name) => isForOneSystem(name) && folder.find(name) !== null);
}

/** `@img/sharp-linux-x64`, `@napi-rs/canvas-linux-arm64-gnu` */
const isForOneSystem = (name: string): boolean => /(?:linux|darwin|win32|linuxmusl)-(?:x64|arm64|ia32|arm)/.test(name);

/** Puts a package and what it depends on below `at`, as npm would: flat, and nested where versions differ. */
function place(folder: PackageFolder, at: string, placed: Map<string, PackageFolder>): void {
  const flat = `node_modules/${folder.name}`;
  const there = placed.get(flat);
  if (there?.path === folder.path) return;
  const target = there === undefined ? flat : `${at}/${folder.name}`;
  if (placed.get(target)?.path === folder.path) return;
  placed.set(target, folder);
  for (const name of [...Object.keys(folder.dependencies), ...Object.keys(folder.optionalDependencies)]) {
    const dependency = folder.find(name);
    if (dependency?.fits(process.arch)) place(dependency, `${target}/node_modules`, placed);
  }
}

/** Paths within the package's folder of what is needed to run it, in a fixed order. */
function filesOf(root: string): string[] {
  const found: string[] = [];
  const walk = (folder: string): void => {
    for (const entry of readdirSync(folder, { withFileTypes: true })) {
      const path = join(folder, entry.name);
      const name = relative(root, path).replaceAll(sep, '/');
      if (entry.isDirectory()) {
        if (!LEFT_OUT_FOLDERS.has(entry.name) && fitsSystem(name)) walk(path);
      } else if (entry.isFile() && !LEFT_OUT.test(name) && fitsSystem(name) && !isForeignCode(path, name)) found.push(name);
    }
  };
  walk(root);
  return found.sort();
}

/** `prebuilds/darwin-arm64` is for another machine, `node.napi.musl.node` for another C library. */
function fitsSystem(name: string): boolean {
  const [first, system] = name.split('/');
  if (first === 'prebuilds' && system !== undefined && !system.startsWith('linux-')) return false;
  return !/(?:^|[.-])musl[.-]/.test(basename(name));
}

/** Machine code that the platform could not load is ballast. */
function isForeignCode(path: string, name: string): boolean {
  if (!/\.(?:node|so(?:\.\d+)*|dll|dylib|exe)$/.test(name)) return false;
  const bytes = readFileSync(path);
  return !isElf(bytes) || readElf(bytes)?.arch !== process.arch;
}

/** Throws CliError where neither the package nor one that it brings along has code for the platform. */
function checkPackage(folder: PackageFolder, placed: readonly PackageFolder[]): void {
  const own = new Set([
    folder.path,
    ...[...Object.keys(folder.optionalDependencies), ...Object.keys(folder.dependencies)].map((name) => folder.find(name)?.path),
  ]);
  const has = placed.some(
    ({ path }) => own.has(path) && filesOf(path).some((name) => name.endsWith('.node') || isProgram(join(path, name))),
  );
  if (has) return;
  throw new CliError(`the package ${folder.name} has no machine code for the platform (${describeTarget()})`, {
    details: [`It is at ${realpathSync(folder.path)}.`],
    hint: HINT(),
  });
}

/** Such as esbuild's: what the package runs is no addon. */
function isProgram(path: string): boolean {
  return !/\.[a-z0-9]+$/i.test(path) && isElf(readFileSync(path));
}
