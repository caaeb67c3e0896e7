/**
 * What the bundlers of the JavaScript runtimes share: one ES module with its npm packages and its
 * source map. The same sources give the same bytes, wherever the folder lies, so that an unchanged
 * function is not sent again.
 */
import { existsSync } from 'node:fs';
import { join, relative } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { BuildFailure, BuildOptions, Message, Plugin } from 'esbuild';
import { BUNDLE_LIMITS } from '#contract/api.ts';
import { archive, type ArchiveFile } from '../archive.ts';
import { CliError, usageError } from '../errors.ts';
import { formatBytes } from '../output.ts';
import type { Source } from '../source.ts';
import { readAssets } from './assets.ts';
import { NativeCode } from './native.ts';
import type { Bundle, BundleRequest } from './types.ts';

export const BUNDLE_ENTRY = 'index.mjs';

/**
 * CommonJS packages inside an ES module need `require`. esbuild renames whatever a source calls
 * `require` itself, so this declaration meets no other.
 */
const BANNER = "import { createRequire as __fnCreateRequire } from 'node:module';\nconst require = __fnCreateRequire(import.meta.url);";

/** Gives `__dirname` and `__filename` to whoever uses them without declaring them, as CommonJS sources do. */
const CJS_GLOBALS = 'fn:cjs-globals';
const CJS_GLOBALS_SOURCE = 'export const __filename = import.meta.filename;\nexport const __dirname = import.meta.dirname;\n';

/** What esbuild only murmurs by default, and what fails at run time: the target is not in the bundle. */
const DYNAMIC = { 'unsupported-dynamic-import': 'warning', 'unsupported-require-call': 'warning', 'indirect-require': 'warning' } as const;

const OPTIONS = {
  bundle: true,
  write: false,
  platform: 'node',
  format: 'esm',
  sourcemap: 'external',
  sourcesContent: true,
  keepNames: true,
  minify: false,
  legalComments: 'none',
  charset: 'utf8',
  logLevel: 'silent',
  logOverride: DYNAMIC,
  banner: { js: BANNER },
  inject: [CJS_GLOBALS],
  mainFields: ['module', 'main'],
  loader: {
    '.txt': 'text',
    '.md': 'text',
    '.html': 'text',
    '.css': 'text',
    '.svg': 'text',
    '.sql': 'text',
    '.graphql': 'text',
    '.wasm': 'binary',
    '.bin': 'binary',
  },
} satisfies BuildOptions;

/** What a runtime has of its own. */
export interface Flavour {
  /** Of esbuild: which syntax the runtime understands. */
  target: string;
  /** Conditions of `exports` in package.json that it has beside Node's. */
  conditions: readonly string[];
  plugins: (source: Source) => Plugin[];
}

export type JavaScriptRequest = Pick<BundleRequest, 'source' | 'cwd'> & Partial<Pick<BundleRequest, 'assets' | 'debug'>>;

/** Bundles a function. Throws CliError with esbuild's own messages, place and lines. */
export async function bundleJavaScript({ source, cwd, assets = [], debug = false }: JavaScriptRequest, flavour: Flavour): Promise<Bundle> {
  const esbuild = await import('esbuild');
  const outfile = join(source.folder, BUNDLE_ENTRY);
  const native = new NativeCode();
  let result;
  try {
    result = await esbuild.build({
      ...OPTIONS,
      target: flavour.target,
      ...(flavour.conditions.length === 0 ? {} : { conditions: [...flavour.conditions, 'module'] }),
      absWorkingDir: source.folder,
      entryPoints: [source.entry],
      outfile,
      plugins: [cjsGlobals, ...flavour.plugins(source), native.plugin],
    });
  } catch (error) {
    if (!isBuildFailure(error)) throw error;
    throw await buildError(error, source, cwd, esbuild.formatMessages);
  }
  const text = (suffix: string): string => result.outputFiles.find((file) => file.path === outfile + suffix)?.text ?? '';
  const code = Buffer.from(`${withoutPlaces(text('')).trimEnd()}\n//# sourceMappingURL=${BUNDLE_ENTRY}.map\n`);
  const map = debug ? absoluteMap(text('.map'), source.folder) : portableMap(text('.map'));
  const files: ArchiveFile[] = [
    { name: BUNDLE_ENTRY, contents: code },
    { name: `${BUNDLE_ENTRY}.map`, contents: Buffer.from(map) },
    ...native.files(),
  ];
  const packed = await pack(files, readAssets(source.folder, assets));
  const warnings = result.warnings.filter((warning) => !isForeign(warning));
  return { ...packed, entry: BUNDLE_ENTRY, codeBytes: code.length, warnings: warnings.map(oneLine) };
}

/** An archive of files and assets. Throws usageError where an asset has the name of something else, CliError where it is too large. */
export async function pack(files: readonly ArchiveFile[], assets: readonly ArchiveFile[]): Promise<Awaited<ReturnType<typeof archive>>> {
  const taken = new Set(files.map(({ name }) => name));
  const twice = assets.find(({ name }) => taken.has(name));
  if (twice)
    throw usageError(`the asset ${twice.name} has the name of a file that the bundle has itself`, 'Name it differently, or leave it out.');
  const all = [...files, ...assets];
  // Before it is packed, which takes most of the time.
  checkSize(
    'unpacked',
    all.reduce((sum, { contents }) => sum + contents.length, 0),
    BUNDLE_LIMITS.maxUnpackedBytes,
  );
  if (all.length > BUNDLE_LIMITS.maxEntries)
    throw new CliError(`the bundle has ${all.length} files; the limit is ${BUNDLE_LIMITS.maxEntries}`);
  const packed = await archive(all);
  checkSize('packed', packed.bytes.length, BUNDLE_LIMITS.maxUploadBytes);
  return packed;
}

const cjsGlobals: Plugin = {
  name: 'cjs-globals',
  setup(build) {
    build.onResolve({ filter: /^fn:cjs-globals$/ }, () => ({ path: 'cjs-globals', namespace: 'fn', sideEffects: false }));
    build.onLoad({ filter: /.*/, namespace: 'fn' }, () => ({ contents: CJS_GLOBALS_SOURCE, loader: 'js' }));
  },
};

function isBuildFailure(error: unknown): error is BuildFailure {
  return error instanceof Error && 'errors' in error && Array.isArray(error.errors) && 'warnings' in error;
}

const isForeign = (message: Message): boolean => message.location?.file.includes('node_modules/') === true;

function oneLine({ text, location }: Message): string {
  return location ? `${location.file}:${location.line}:${location.column + 1}: ${text}` : text;
}

async function buildError(
  { errors }: BuildFailure,
  source: Source,
  cwd: string,
  format: typeof import('esbuild').formatMessages,
): Promise<CliError> {
  const shown = errors.slice(0, 10);
  // "You can mark the path as external": a bundle has no other place where it could come from.
  const without = shown.map((message) => ({ ...message, notes: message.notes.filter(({ text }) => !text.includes('external')) }));
  const frames = await format(without, { kind: 'error', color: false });
  const details = frames.map((frame, index) => [oneLine(shown[index]!), ...codeFrame(frame)].join('\n'));
  if (errors.length > shown.length) details.push(`… and ${errors.length - shown.length} more`);
  const unresolved = errors.flatMap(({ text }) => /^Could not resolve "(?<name>[^./"][^"]*)"/.exec(text)?.groups?.name ?? []);
  const hint = unresolved.length > 0 ? (runtimeHint(unresolved) ?? installHint(source.folder, unresolved)) : 'Nothing was deployed.';
  const path = relative(cwd, source.entry);
  return new CliError(`${path.startsWith('..') ? source.entry : path} does not build`, { details, hint });
}

/** The lines of code and the notes, without esbuild's own title and place, which count columns from 0. */
function codeFrame(frame: string): string[] {
  const lines = frame.split('\n').slice(1);
  return lines.filter((line) => line.trim() !== '' && !/^ {4}\S+:\d+:\d+:$/.test(line)).map((line) => line.replace(/^ {4}/, '').trimEnd());
}

/** What only another runtime has: no package brings it. */
function runtimeHint(names: readonly string[]): string | null {
  const [foreign, runtime] = [
    [names.find((name) => /^bun(?::|$)/.test(name)), 'bun'] as const,
    [names.find((name) => /^(?:jsr|npm|https?):/.test(name)), 'deno'] as const,
  ].find(([name]) => name !== undefined) ?? [undefined, undefined];
  return foreign === undefined ? null : `${foreign} is for the runtime ${runtime}: --runtime ${runtime}, or runtime: ${runtime} in fn.yaml`;
}

/** A package that is not found: is it not installed, or not even wanted? */
function installHint(folder: string, names: readonly string[]): string {
  if (existsSync(join(folder, 'package.json')) && !existsSync(join(folder, 'node_modules')))
    return `Its packages are not installed: cd '${folder}' && npm install`;
  const packages = new Set(names.flatMap((name) => PACKAGE.exec(name)?.[0] ?? []));
  return `Add the package: cd '${folder}' && npm install ${[...packages].join(' ') || 'NAME'}`;
}

/** The package of a module's name: `left-pad` of `left-pad/index.js`. An alias such as `@/page` or `~/page` is of none. */
const PACKAGE = /^(?:@[a-z0-9][\w.-]*\/)?[a-z0-9][\w.-]*(?=\/|$)/;

export function checkSize(state: 'packed' | 'unpacked', bytes: number, limitBytes: number): void {
  if (bytes <= limitBytes) return;
  throw new CliError(`the bundle is too large: ${formatBytes(bytes)} ${state}; the limit is ${formatBytes(limitBytes)}`, {
    hint: 'Import less of what is not needed; large data belongs in a store.',
  });
}

/** `../../node_modules/x`, which depends on where packages were hoisted to, is `node_modules/x`. */
const HOISTED = /^(?:\.\.\/)+(?=node_modules\/)/;

/** The same for the places that esbuild writes into the code: comments before each module, names of CommonJS ones. */
function withoutPlaces(code: string): string {
  return code.replace(/^(\/\/ |(?: {2})")(?:\.\.\/)+(?=node_modules\/)/gm, '$1');
}

interface RawSourceMap {
  sources: string[];
  [field: string]: unknown;
}

function portableMap(text: string): string {
  const map = JSON.parse(text) as RawSourceMap;
  return JSON.stringify({ ...map, sources: map.sources.map((path) => path.replace(HOISTED, '')) });
}

/** Files by URLs: a debugger finds them wherever the bundle lies. */
function absoluteMap(text: string, folder: string): string {
  const map = JSON.parse(text) as RawSourceMap;
  return JSON.stringify({ ...map, sources: map.sources.map((path) => pathToFileURL(join(folder, path)).href) });
}
