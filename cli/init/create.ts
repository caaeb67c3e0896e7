/** Makes the folder of a new function from a template. */
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join, relative } from 'node:path';
import { CliError, usageError } from '../errors.ts';
import { root } from '../root.ts';
import { toLabel } from '../source.ts';
import type { Template } from './templates.ts';

/** What the tests of this repository need of an example, and a new project does not. */
const LEFT_OUT: ReadonlySet<string> = new Set(['requests.yaml', 'README.md', 'node_modules']);
/** Where a project keeps what fn made for its editor. */
const EDITOR_FOLDER = '.fn';
/** The Node that functions run on. */
const NODE_TYPES_MAJOR = 24;

export interface Created {
  folder: string;
  name: string;
  /** Names of the files, relative to the folder, in order. */
  files: string[];
  /** Commands that come next, in the order in which to give them. */
  next: string[];
}

/** Copies the template; the function is named after the folder. Throws usageError where the folder has files already; nothing is written then. */
export function createProject(template: Template, folder: string, cwd: string): Created {
  const name = toLabel(basename(folder));
  if (name === null)
    throw usageError(`no function name can be made of ${basename(folder)}`, 'Give the folder a name with letters or digits.');
  if (existsSync(folder) && readdirSync(folder).some((file) => file !== '.git')) {
    throw usageError(`${folder} is not empty`, 'Name a folder that is new or empty: fn init TEMPLATE DIR');
  }
  const isNew = !existsSync(folder);
  try {
    mkdirSync(folder, { recursive: true });
    cpSync(template.folder, folder, { recursive: true, filter: (source) => source === template.folder || !LEFT_OUT.has(basename(source)) });
    rename(template, folder, name);
    addEditorFiles(template, folder, name);
  } catch (error) {
    if (isNew) rmSync(folder, { recursive: true, force: true });
    throw new CliError(`${folder} could not be made: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
  const files = readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)))
    .toSorted();
  return { folder, name, files, next: nextSteps(template, folder, cwd) };
}

/** The function and its package get the folder's name. */
function rename(template: Template, folder: string, name: string): void {
  const manifest = join(folder, 'fn.yaml');
  const text = readFileSync(manifest, 'utf8').replace(`\n  ${template.name}:\n`, `\n  ${name}:\n`);
  writeFileSync(manifest, `# yaml-language-server: $schema=${EDITOR_FOLDER}/fn.schema.json\n${text}`);
  const file = join(folder, 'package.json');
  if (!existsSync(file)) return;
  const parsed = JSON.parse(readFileSync(file, 'utf8')) as Record<string, unknown>;
  writeFileSync(file, `${JSON.stringify({ ...parsed, name }, null, 2)}\n`);
}

/** The schema of fn.yaml and the types of what a handler gets: an editor then completes both. */
function addEditorFiles(template: Template, folder: string, name: string): void {
  const editor = join(folder, EDITOR_FOLDER);
  mkdirSync(editor, { recursive: true });
  cpSync(join(root, 'docs/fn.schema.json'), join(editor, 'fn.schema.json'));
  const ignore = join(folder, '.gitignore');
  const ignored = existsSync(ignore) ? readFileSync(ignore, 'utf8') : '';
  writeFileSync(ignore, `${ignored}node_modules/\n.env\n.secrets\n`);
  if (template.language !== 'TypeScript') return;
  cpSync(join(root, 'runtime-images/node/types.d.ts'), join(editor, 'fn.d.ts'));
  const tsconfig = {
    compilerOptions: {
      target: 'es2024',
      // Those of Node, not of a browser, which lack ReadableStream.from and the like.
      lib: ['es2024'],
      module: 'nodenext',
      strict: true,
      noEmit: true,
      skipLibCheck: true,
      types: ['node'],
      paths: { fn: [`./${EDITOR_FOLDER}/fn.d.ts`] },
    },
  };
  writeFileSync(join(folder, 'tsconfig.json'), `${JSON.stringify(tsconfig, null, 2)}\n`);
  addNodeTypes(folder, name);
}

/** The tsconfig names Node's types: without the package a check of types fails before it has looked at anything. */
function addNodeTypes(folder: string, name: string): void {
  const file = join(folder, 'package.json');
  const made: Record<string, unknown> = { name, private: true, type: 'module' };
  const parsed = existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as Record<string, unknown>) : made;
  const devDependencies = { ...(parsed.devDependencies as Record<string, string> | undefined), '@types/node': `^${NODE_TYPES_MAJOR}` };
  writeFileSync(file, `${JSON.stringify({ ...parsed, devDependencies }, null, 2)}\n`);
}

function nextSteps({ language, folder: source }: Template, folder: string, cwd: string): string[] {
  const path = relative(cwd, folder);
  const steps = path === '' ? [] : [`cd ${/^[\w./-]+$/.test(path) ? path : `'${path}'`}`];
  if (existsSync(join(source, 'package.json'))) steps.push('npm install');
  else if (language === 'TypeScript') steps.push('npm install   # types of Node, for your editor');
  if (language === 'Go' || language === 'image') steps.push('CGO_ENABLED=0 go build -o server .');
  for (const secret of secretsOf(source)) steps.push(`fn secret set ${secret}`);
  return [...steps, 'fn dev        # serve it here, and again at each change', 'fn deploy     # put it live'];
}

function secretsOf(folder: string): string[] {
  const list = /^\s+secrets: \[([^\]]*)\]$/m.exec(readFileSync(join(folder, 'fn.yaml'), 'utf8'))?.[1] ?? '';
  return list
    .split(',')
    .map((name) => name.trim())
    .filter((name) => name !== '');
}
