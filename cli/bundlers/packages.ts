/** npm packages as they lie on the disk: where one is, what its package.json says, what it would find. */
import { existsSync, readFileSync, realpathSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { z } from 'zod';

/** What is read of a package.json; people write all sorts of things into the rest. */
const Manifest = z.object({
  name: z.string().optional(),
  version: z.string().default(''),
  dependencies: z.record(z.string(), z.string()).catch({}).default({}),
  optionalDependencies: z.record(z.string(), z.string()).catch({}).default({}),
  os: z
    .array(z.string())
    .or(z.string().transform((one) => [one]))
    .catch([])
    .default([]),
  cpu: z
    .array(z.string())
    .or(z.string().transform((one) => [one]))
    .catch([])
    .default([]),
  libc: z
    .array(z.string())
    .or(z.string().transform((one) => [one]))
    .catch([])
    .default([]),
});

const known = new Map<string, PackageFolder | null>();

/** `@scope/name/file` → `@scope/name` */
export function nameOfSpecifier(specifier: string): string {
  return specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/');
}

export class PackageFolder {
  /** A real path. */
  readonly path: string;
  readonly name: string;
  readonly version: string;
  readonly dependencies: Readonly<Record<string, string>>;
  readonly optionalDependencies: Readonly<Record<string, string>>;
  readonly #manifest: z.output<typeof Manifest>;

  constructor(path: string, name: string, manifest: z.output<typeof Manifest>) {
    this.path = path;
    this.name = name;
    this.version = manifest.version;
    this.dependencies = manifest.dependencies;
    this.optionalDependencies = manifest.optionalDependencies;
    this.#manifest = manifest;
  }

  /** The package in node_modules that a file belongs to; null for the function's own files. */
  static of(file: string, name: string): PackageFolder | null {
    if (!file.includes('node_modules')) return null;
    for (let folder = dirname(file); folder !== dirname(folder); folder = dirname(folder)) {
      const read = PackageFolder.read(folder, name);
      if (read !== null) return read;
    }
    return null;
  }

  /** Null where the folder is no package of this name. */
  static read(folder: string, name: string): PackageFolder | null {
    const file = join(folder, 'package.json');
    const key = `${name}\n${file}`;
    const before = known.get(key);
    if (before !== undefined) return before;
    let found: PackageFolder | null = null;
    if (existsSync(file)) {
      const manifest = parse(readFileSync(file, 'utf8'));
      if (manifest?.name === name) found = new PackageFolder(realpathSync(folder), name, manifest);
    }
    known.set(key, found);
    return found;
  }

  /** A package as Node would find it from this one; null where it is not installed. */
  find(name: string): PackageFolder | null {
    for (let folder = this.path; ; folder = dirname(folder)) {
      const found = PackageFolder.read(join(folder, 'node_modules', name), name);
      if (found !== null) return found;
      if (folder === dirname(folder)) return null;
    }
  }

  /** Whether it is for Linux, this CPU and glibc, as far as it says. */
  fits(arch: string): boolean {
    const { os, cpu, libc } = this.#manifest;
    return allows(os, 'linux') && allows(cpu, arch) && allows(libc, 'glibc');
  }
}

/** As npm reads `os` and `cpu`: names, or names that are excluded. */
function allows(list: readonly string[], value: string): boolean {
  if (list.includes(`!${value}`)) return false;
  const named = list.filter((one) => !one.startsWith('!'));
  return named.length === 0 || named.includes(value) || named.includes('any');
}

function parse(text: string): z.output<typeof Manifest> | null {
  try {
    const result = Manifest.safeParse(JSON.parse(text));
    return result.success ? result.data : null;
  } catch {
    return null; // not JSON: esbuild says it better, where it is needed
  }
}
