/** Reads the project's own source: which files there are, and what each imports and touches. */
import { readFileSync, readdirSync } from 'node:fs';
import { join, relative } from 'node:path';
import { parseAst } from 'vitest/node';
import { ROOT } from './root.ts';

const SOURCE_FOLDERS = ['controller', 'gateway', 'cli', 'runtime-images', 'helm', 'examples', 'test'];

export interface SourceFile {
  /** Path from the root, with /. */
  path: string;
  text: string;
}

/** Something in a file that a rule may be about. `name`: a module specifier, or a dotted name such as `process.env`. */
export interface Finding {
  kind: 'import' | 'name' | 'double-cast';
  name: string;
  line: number;
}

interface Node {
  type: string;
  start: number;
  [key: string]: unknown;
}

const isNode = (value: unknown): value is Node =>
  typeof value === 'object' && value !== null && 'type' in value && typeof value.type === 'string' && 'start' in value;

/** Every .ts, .mts, .cts, .js, .mjs and .cjs file of the project, without what is installed or built. */
export function sourceFiles(): SourceFile[] {
  const files: SourceFile[] = [];
  for (const folder of SOURCE_FOLDERS) {
    for (const entry of readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true })) {
      const path = relative(ROOT, join(entry.parentPath, entry.name)).replaceAll('\\', '/');
      if (!entry.isFile() || !/\.[mc]?[tj]s$/.test(path) || /(?:^|\/)(?:node_modules|dist|fixtures)\//.test(path)) continue;
      files.push({ path, text: readFileSync(join(ROOT, path), 'utf8') });
    }
  }
  return files.toSorted((a, b) => a.path.localeCompare(b.path));
}

function specifier(node: Node): string | null {
  switch (node.type) {
    case 'ImportDeclaration':
    case 'ExportNamedDeclaration':
    case 'ExportAllDeclaration':
    case 'ImportExpression':
    case 'TSImportType':
      return isNode(node.source) && typeof node.source.value === 'string' ? node.source.value : null;
    case 'CallExpression': {
      const [first] = node.arguments as unknown[];
      const callee = isNode(node.callee) && node.callee.type === 'Identifier' ? node.callee.name : null;
      return callee === 'require' && isNode(first) && typeof first.value === 'string' ? first.value : null;
    }
    default:
      return null;
  }
}

/** `process.env` of a member expression on a plain identifier. */
function dottedName(node: Node): string | null {
  if (node.type !== 'MemberExpression' || node.computed === true) return null;
  const { object, property } = node;
  if (!isNode(object) || object.type !== 'Identifier' || !isNode(property) || property.type !== 'Identifier') return null;
  return `${String(object.name)}.${String(property.name)}`;
}

function bareName(node: Node): string | null {
  if (node.type === 'NewExpression' && isNode(node.callee) && node.callee.type === 'Identifier') {
    return (node.arguments as unknown[]).length === 0 ? `new ${String(node.callee.name)}()` : null;
  }
  if (node.type === 'CallExpression' && isNode(node.callee) && node.callee.type === 'Identifier') return `${String(node.callee.name)}()`;
  return null;
}

function isDoubleCast(node: Node): boolean {
  if (node.type !== 'TSAsExpression' || !isNode(node.expression) || node.expression.type !== 'TSAsExpression') return false;
  const inner = node.expression.typeAnnotation;
  return isNode(inner) && (inner.type === 'TSUnknownKeyword' || inner.type === 'TSAnyKeyword');
}

/** What a file imports (types and dynamic imports too) and the globals that it touches. */
export function findings(file: SourceFile): Finding[] {
  const found: Finding[] = [];
  const lineOf = (offset: number) => file.text.slice(0, offset).split('\n').length;
  const visit = (node: Node) => {
    const add = (kind: Finding['kind'], name: string | null) => {
      if (name !== null) found.push({ kind, name, line: lineOf(node.start) });
    };
    add('import', specifier(node));
    add('name', dottedName(node) ?? bareName(node));
    if (isDoubleCast(node)) add('double-cast', 'as unknown as');
    for (const value of Object.values(node)) {
      if (isNode(value)) visit(value);
      else if (Array.isArray(value)) for (const item of value) if (isNode(item)) visit(item);
    }
  };
  const program: unknown = parseAst(file.text, { lang: /\.[mc]?ts$/.test(file.path) ? 'ts' : 'js' });
  if (!isNode(program)) throw new Error(`${file.path} could not be parsed`);
  visit(program);
  return found;
}
