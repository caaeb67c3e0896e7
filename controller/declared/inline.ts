/** Code that stands in the object itself, as a bundle: no packages, and TypeScript without its types. */
import { posix } from 'node:path';
import { FnError } from '#contract/errors.ts';
import { archive, type Archive } from '#kit/archive.ts';
import { CannotStrip, stripTypes } from './strip-types.ts';

/** What an extension of TypeScript becomes. */
const STRIPPED: Readonly<Record<string, string>> = { '.ts': '.mjs', '.mts': '.mjs', '.cts': '.cjs' };
const RUNTIMES: Readonly<Record<string, string>> = {
  '.ts': 'node',
  '.mts': 'node',
  '.cts': 'node',
  '.js': 'node',
  '.mjs': 'node',
  '.cjs': 'node',
  '.py': 'python',
};

export interface InlineBundle extends Archive {
  entry: string;
  runtime: string;
}

const refuse = (field: string, detail: string): FnError =>
  new FnError('invalid', `${field}: ${detail}`, { errors: [{ pointer: `/spec/${field}`, detail }] });

/** Throws FnError invalid with the place of what is wrong. The same files give the same bytes. */
export async function inlineBundle(
  files: Readonly<Record<string, string>>,
  { entry, runtime }: { entry?: string | undefined; runtime?: string | undefined },
): Promise<InlineBundle> {
  const names = Object.keys(files);
  const main = entry ?? (names.length === 1 ? names[0]! : null);
  if (main === null) throw refuse('entry', `is missing: which of ${names.join(', ')} is loaded`);
  if (!Object.hasOwn(files, main)) throw refuse('entry', `${main} is none of the files; there is: ${names.join(', ')}`);
  const language = runtime ?? RUNTIMES[posix.extname(main)];
  if (language === undefined) throw refuse('runtime', `is missing: the name ${main} does not tell it`);
  // Deno and Bun read TypeScript as it is, and its files by their names.
  const become = new Map(names.map((name) => [name, language === 'node' ? nameOf(name) : name]));
  const taken = new Set(become.values());
  if (taken.size < names.length) throw refuse('source/inline/files', 'two files have the same name once .ts is .mjs');
  const plain = await stripped(new Map(Object.entries(files).filter(([name]) => become.get(name) !== name)));
  const packed = await archive(
    Object.entries(files).map(([name, text]) => ({
      name: become.get(name)!,
      contents: Buffer.from(renamed(plain.get(name) ?? text, name, become), 'utf8'),
    })),
  );
  return { ...packed, entry: become.get(main)!, runtime: language };
}

function nameOf(name: string): string {
  const extension = posix.extname(name);
  if (extension === '.tsx' || extension === '.jsx')
    throw refuse(`source/inline/files/${name}`, 'JSX has to be compiled: fn render makes a bundle of it');
  if (name.endsWith('.d.ts') || !Object.hasOwn(STRIPPED, extension)) return name;
  return `${name.slice(0, -extension.length)}${STRIPPED[extension]}`;
}

async function stripped(files: ReadonlyMap<string, string>): Promise<Map<string, string>> {
  try {
    return await stripTypes(files);
  } catch (error) {
    if (!(error instanceof CannotStrip)) throw error;
    throw refuse(`source/inline/files/${error.file}`, `${error.message.split('\n')[0]} (types are only stripped here; fn render compiles)`);
  }
}

/**
 * An import of a file beside it. Blanks are taken in one place only: were there two side by side, a text of blanks would be tried in
 * as many ways as it is long, squared, and the controller would stand still.
 */
const IMPORT = /(\bfrom\s*|\bimport\s*|\bimport\s*\(\s*|\brequire\s*\(\s*)(['"])(\.{1,2}\/[^'"\n]+)\2/g;

/** What files import from each other has new names, too: `./lib.ts` is `./lib.mjs`. Other text that looks alike names no file. */
function renamed(text: string, name: string, become: ReadonlyMap<string, string>): string {
  return text.replaceAll(IMPORT, (all, before: string, quote: string, path: string) => {
    const target = become.get(posix.join(posix.dirname(name), path));
    if (target === undefined) return all;
    const to = posix.relative(posix.dirname(name), target);
    return `${before}${quote}${to.startsWith('.') ? to : `./${to}`}${quote}`;
  });
}
