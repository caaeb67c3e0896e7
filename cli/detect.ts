/** Which runtime a source is for, by what its files are; `--runtime` and fn.yaml overrule it. */
import { closeSync, existsSync, openSync, readSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';

/** Files that say which of the runtimes of JavaScript is meant, looked for beside the source and in the folder above `src`. */
const MARKS: readonly (readonly [runtime: string, files: readonly string[]])[] = [
  ['deno', ['deno.json', 'deno.jsonc', 'deno.lock']],
  ['bun', ['bunfig.toml', 'bun.lock', 'bun.lockb']],
];
const DOCKERFILES = ['Dockerfile', 'Containerfile'] as const;
/** Names that an executable of a folder may have, beside the folder's own. */
const PROGRAM_NAMES = ['bootstrap', 'main', 'app', 'server', 'function'] as const;
const PROGRAM_FOLDERS = ['', 'bin', 'dist', 'build', join('target', 'release')] as const;
/** File names that the function of a folder in Python may have, the most telling first. */
const PYTHON_NAMES = ['main.py', 'app.py', 'handler.py', 'index.py', 'function.py', 'lambda_function.py', 'wsgi.py', 'asgi.py'] as const;
const ELF_MAGIC = '\x7fELF';

/** `node`, unless the project is one of Bun or Deno. */
export function javaScriptRuntime(folder: string): string {
  const places = basename(folder) === 'src' ? [folder, dirname(folder)] : [folder];
  for (const place of places) {
    const mark = MARKS.find(([, files]) => files.some((file) => existsSync(join(place, file))));
    if (mark) return mark[0];
  }
  return 'node';
}

/** `image` or `binary` for a file that is no source; null where it is neither. */
export function runtimeOfFile(path: string): 'python' | 'image' | 'binary' | null {
  const name = basename(path);
  if (name.endsWith('.py')) return 'python';
  if (/^(?:Dockerfile|Containerfile)(?:\..+)?$|\.(?:Dockerfile|tar)$/i.test(name)) return 'image';
  return isProgram(path) ? 'binary' : null;
}

/** What a folder without JavaScript holds: Python, an executable, or how an image is built. */
export function otherEntry(folder: string): { entry: string; runtime: 'python' | 'image' | 'binary' } | null {
  for (const place of [folder, join(folder, 'src')]) {
    const python = PYTHON_NAMES.map((name) => join(place, name)).find((path) => existsSync(path));
    if (python !== undefined) return { entry: python, runtime: 'python' };
  }
  for (const place of PROGRAM_FOLDERS) {
    for (const name of [basename(folder), ...PROGRAM_NAMES]) {
      const entry = join(folder, place, name);
      if (isProgram(entry)) return { entry, runtime: 'binary' };
    }
  }
  const dockerfile = DOCKERFILES.map((name) => join(folder, name)).find((path) => existsSync(path));
  return dockerfile === undefined ? null : { entry: dockerfile, runtime: 'image' };
}

/** A file that begins as executables of Linux do. */
function isProgram(path: string): boolean {
  if (statSync(path, { throwIfNoEntry: false })?.isFile() !== true) return false;
  const file = openSync(path, 'r');
  try {
    const head = Buffer.alloc(ELF_MAGIC.length);
    return readSync(file, head, 0, head.length, 0) === head.length && head.toString('latin1') === ELF_MAGIC;
  } finally {
    closeSync(file);
  }
}
