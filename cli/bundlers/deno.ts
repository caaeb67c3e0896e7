/**
 * The bundler of the runtime `deno`. A function has no registry when it runs, so what is imported must be
 * here when it is deployed: the import map of deno.json is followed, `npm:` is looked for in node_modules,
 * and what only a registry has is refused with words that say what to do.
 */
import { existsSync, readFileSync } from 'node:fs';
import { builtinModules } from 'node:module';
import { dirname, join } from 'node:path';
import type { OnResolveResult, Plugin, PluginBuild } from 'esbuild';
import { z } from 'zod';
import { usageError } from '../errors.ts';
import { bundleJavaScript, type Flavour } from './javascript.ts';
import type { Bundle, BundleRequest } from './types.ts';

export const DENO_CONFIGS = ['deno.json', 'deno.jsonc'] as const;

const Config = z.object({ imports: z.record(z.string(), z.string()).default({}) });
type Imports = Readonly<Record<string, string>>;

const DENO: Flavour = { target: 'esnext', conditions: ['deno'], plugins: (source) => [denoModules(importMap(source.folder))] };

export const bundleDeno = (request: BundleRequest): Promise<Bundle> => bundleJavaScript(request, DENO);

/** `imports` of the deno.json of the folder, or of the next one above it. Throws usageError where it is not to be read. */
function importMap(folder: string): { imports: Imports; base: string } {
  for (let place = folder; ; place = dirname(place)) {
    const name = DENO_CONFIGS.find((candidate) => existsSync(join(place, candidate)));
    if (name !== undefined) return { imports: readConfig(join(place, name)), base: place };
    if (place === dirname(place)) return { imports: {}, base: folder };
  }
}

function readConfig(file: string): Imports {
  const text = readFileSync(file, 'utf8');
  try {
    return Config.parse(JSON.parse(withoutComments(text))).imports;
  } catch (error) {
    throw usageError(
      `${file} cannot be read: ${error instanceof z.ZodError ? z.prettifyError(error) : error instanceof Error ? error.message : String(error)}`,
    );
  }
}

/** JSON with comments and trailing commas, as deno.jsonc may be; what is in strings stays. */
function withoutComments(text: string): string {
  return text
    .replace(/("(?:\\.|[^"\\])*")|\/\/[^\n]*|\/\*[^]*?\*\//g, (_, quoted: string | undefined) => quoted ?? ' ')
    .replace(/("(?:\\.|[^"\\])*")|,(?=\s*[}\]])/g, (_, quoted: string | undefined) => quoted ?? '');
}

const builtins = new Set(builtinModules);

function denoModules({ imports, base }: { imports: Imports; base: string }): Plugin {
  return {
    name: 'deno-modules',
    setup(build) {
      // Deno knows Node's modules by their full name only.
      build.onResolve({ filter: /^[a-z_0-9/]+$/ }, ({ path }) =>
        builtins.has(path) ? { path: `node:${path}`, external: true } : undefined,
      );
      build.onResolve({ filter: /^[^./]/ }, async ({ path, resolveDir, kind, pluginData }) => {
        if (kind === 'entry-point' || path.startsWith('node:') || path.startsWith('fn:') || pluginData === MAPPED) return undefined;
        const mapped = mapSpecifier(path, imports);
        return await resolveTarget(build, mapped, { original: path, resolveDir, base, kind });
      });
    },
  };
}

const MAPPED = { mapped: true };

/** As import maps are read: the whole specifier, else the longest key that ends in a slash. */
function mapSpecifier(specifier: string, imports: Imports): string {
  if (Object.hasOwn(imports, specifier)) return imports[specifier]!;
  const prefix = Object.keys(imports)
    .filter((key) => key.endsWith('/') && specifier.startsWith(key))
    .sort((a, b) => b.length - a.length)[0];
  return prefix === undefined ? specifier : imports[prefix]! + specifier.slice(prefix.length);
}

interface Target {
  original: string;
  resolveDir: string;
  base: string;
  kind: Parameters<PluginBuild['resolve']>[1] extends infer Options ? (Options extends { kind?: infer Kind } ? Kind : never) : never;
}

async function resolveTarget(
  build: PluginBuild,
  path: string,
  { original, resolveDir, base, kind }: Target,
): Promise<OnResolveResult | undefined> {
  const scheme = /^(npm|jsr|https?|data):/.exec(path)?.[1];
  if (scheme === 'npm') {
    const bare = bareSpecifier(path);
    const found = await build.resolve(bare, { resolveDir, kind, pluginData: MAPPED });
    if (found.errors.length === 0) return { path: found.path, external: found.external, sideEffects: found.sideEffects };
    const name = bare
      .split('/')
      .slice(0, bare.startsWith('@') ? 2 : 1)
      .join('/');
    return refuse(
      original,
      `${path} is not in node_modules`,
      `Put it there: npm install ${name}, or deno install with "nodeModulesDir": "auto" in deno.json.`,
    );
  }
  if (scheme === 'jsr')
    return refuse(original, `${path} is in a registry`, 'Add it as an npm package: npx jsr add NAME, and import it by its name.');
  if (scheme === 'http' || scheme === 'https')
    return refuse(original, `${path} is on another server`, 'Keep a copy of it beside your code, or use an npm package.');
  if (path.startsWith('.') || path.startsWith('/'))
    return await build.resolve(path.startsWith('.') ? path : `.${path}`, { resolveDir: base, kind, pluginData: MAPPED });
  return path === original ? undefined : await build.resolve(path, { resolveDir, kind, pluginData: MAPPED });
}

/** `npm:@scope/name@^1.2/file` → `@scope/name/file` */
function bareSpecifier(specifier: string): string {
  return specifier
    .slice('npm:'.length)
    .replace(/^\//, '')
    .replace(/^(@?[^@]+)@[^/]*/, '$1');
}

function refuse(original: string, what: string, remedy: string): OnResolveResult {
  return {
    errors: [
      {
        text: `Could not bundle ${JSON.stringify(original)}: ${what}`,
        notes: [{ text: `A function has no registry at run time. ${remedy}` }],
      },
    ],
  };
}
