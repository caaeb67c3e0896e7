/** What `fn init` can begin with: the examples, which the tests run, by names that say what they are. */
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { root } from '../root.ts';

export interface Template {
  name: string;
  /** Its folder, absolute. */
  folder: string;
  language: 'TypeScript' | 'JavaScript' | 'Python' | 'Bun' | 'Deno' | 'Go' | 'image';
  /** The first sentence of its README. */
  summary: string;
}

/** Other words for the same, as people guess them. */
const ALIASES: Readonly<Record<string, string>> = {
  node: 'hello',
  typescript: 'hello',
  fetch: 'hello',
  hono: 'hono-app',
  express: 'express-app',
  fastify: 'fastify-app',
  workers: 'workers-style',
  javascript: 'commonjs',
  websocket: 'chat',
  sse: 'words',
  python: 'python-function',
  go: 'go-server',
  binary: 'go-server',
  dockerfile: 'image',
  sharp: 'thumbnail',
  queue: 'queue-worker',
  schedule: 'cron',
  async: 'async-pipeline',
  github: 'webhook-github',
};

/** Where the templates are: the examples beside the program. */
const FOLDER = join(root, 'examples');

/** All templates, in the order of their names. */
export function templates(folder = FOLDER): Template[] {
  return readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && existsSync(join(folder, entry.name, 'fn.yaml')))
    .map(({ name }) => {
      const path = join(folder, name);
      return { name, folder: path, language: languageOf(path), summary: summaryOf(path) };
    })
    .toSorted((a, b) => (a.name < b.name ? -1 : 1));
}

/** The template of this name or of one of its other names; null where there is none. */
export function findTemplate(name: string, all: readonly Template[]): Template | null {
  const meant = Object.hasOwn(ALIASES, name) ? ALIASES[name] : name;
  return all.find((template) => template.name === meant) ?? null;
}

function languageOf(folder: string): Template['language'] {
  const files = new Set(readdirSync(folder));
  const manifest = readFileSync(join(folder, 'fn.yaml'), 'utf8');
  const runtime = /^\s+image: /m.test(manifest) ? 'image' : (/^\s+runtime: (\S+)$/m.exec(manifest)?.[1] ?? 'node');
  if (runtime === 'python') return 'Python';
  if (runtime === 'bun') return 'Bun';
  if (runtime === 'deno') return 'Deno';
  if (runtime === 'binary') return 'Go';
  if (runtime === 'image') return 'image';
  return [...files].some((file) => /\.[cm]?tsx?$/.test(file)) ? 'TypeScript' : 'JavaScript';
}

/** What the README says below its title. */
function summaryOf(folder: string): string {
  const [, text = ''] = readFileSync(join(folder, 'README.md'), 'utf8').split('\n');
  return text
    .split(/(?<=[^.])\. |: /)[0]!
    .replace(/\.$/, '')
    .replaceAll(/\[([^\]]+)\]\([^)]*\)/g, '$1');
}
