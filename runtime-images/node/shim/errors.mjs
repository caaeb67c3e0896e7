/** Errors of user code: told in the positions of its source, whatever was thrown, and never thrown on. */
import fs from 'node:fs';
import { inspect } from 'node:util';
import { host } from './host.mjs';
import { MAX_ERROR_AT, MAX_ERROR_MESSAGE, MAX_ERROR_NAME, MAX_ERROR_STACK, MAX_SOURCE_MAP_BYTES } from './limits.mjs';

/** @typedef {{ name: string, message: string, at?: string, stack?: string }} FunctionError */

/** A position in a file: `file:///code/index.mjs:12:5` or without the scheme. */
const POSITION = /(?:file:\/\/)?(\/[^\s():]*\.[cm]?[jt]sx?):(\d+)(?::(\d+))?/g;

/** @type {string[]} Folders of the bundle, as given and as resolved, with a slash at the end. */
let codeFolders = [];
/** @type {Map<string, import('node:module').SourceMap | null>} */
const maps = new Map();
const SHIM_FOLDER = new URL('.', import.meta.url).pathname;

/**
 * Positions in files below this folder are looked up in the source map beside the file.
 * @param {string} folder
 */
export function setCodeFolder(folder) {
  let real = folder;
  try {
    real = fs.realpathSync(folder);
  } catch {
    // not there: import says so, better than we could
  }
  codeFolders = [...new Set([folder, real])].map((path) => (path.endsWith('/') ? path : `${path}/`));
}

/**
 * Replaces positions in the bundle by those in the source. Costs nothing where the text has none:
 * maps are read when the first error is printed (50 ms, which no cold start should pay).
 * @param {string} text
 */
export function mapPositions(text) {
  if (!codeFolders.some((folder) => text.includes(folder))) return text;
  return text.replace(POSITION, (whole, file, line, column) => {
    const folder = codeFolders.find((candidate) => file.startsWith(candidate));
    if (folder === undefined) return whole;
    return original(file, Number(line), Number(column ?? 1)) ?? `${file.slice(folder.length)}:${line}:${column ?? 1}`;
  });
}

/**
 * `handler.ts:3:9`, or null where no map tells.
 * @param {string} file
 * @param {number} line from 1
 * @param {number} column from 1
 */
function original(file, line, column) {
  const entry = sourceMap(file)?.findEntry(line - 1, column - 1);
  if (!entry || !('originalSource' in entry) || typeof entry.originalSource !== 'string') return null;
  const source = entry.originalSource.replace(/^file:\/\//, '').replace(/^(?:\.\.?\/)+/, '');
  return `${source}:${entry.originalLine + 1}:${entry.originalColumn + 1}`;
}

/** @param {string} file */
function sourceMap(file) {
  let map = maps.get(file);
  if (map !== undefined) return map;
  map = null;
  try {
    const path = `${file}.map`;
    if (fs.statSync(path).size <= MAX_SOURCE_MAP_BYTES) {
      const { SourceMap } = process.getBuiltinModule('node:module');
      map = new SourceMap(JSON.parse(fs.readFileSync(path, 'utf8')));
    }
  } catch {
    map = null; // no map, or a broken one: positions of the bundle must do
  }
  maps.set(file, map);
  return map;
}

/**
 * An error for the log: stack, causes and own properties, positions of the source.
 * @param {unknown} error
 */
export function errorText(error) {
  try {
    const told = host.normalise(error);
    return withoutInternals(mapPositions(told instanceof Error ? inspect(told) : `thrown: ${inspect(told)}`));
  } catch {
    return 'an error that cannot be printed'; // a hostile getter or proxy
  }
}

/**
 * An error for the platform.
 * @param {unknown} error
 * @returns {FunctionError}
 */
export function describeError(error) {
  try {
    return describe(host.normalise(error));
  } catch {
    return { name: 'Error', message: 'an error that cannot be printed' };
  }
}

/** @param {unknown} error */
function describe(error) {
  if (!(error instanceof Error)) return { name: 'Error', message: `thrown: ${inspect(error)}`.slice(0, MAX_ERROR_MESSAGE) };
  const stack = typeof error.stack === 'string' ? error.stack : '';
  const mapped = withoutInternals(mapPositions(stack));
  /** @type {FunctionError} */
  const described = {
    name: String(error.name).slice(0, MAX_ERROR_NAME),
    message: mapPositions(String(error.message)).slice(0, MAX_ERROR_MESSAGE),
  };
  const at = firstPosition(stack);
  if (at !== undefined) described.at = at.slice(0, MAX_ERROR_AT);
  if (mapped !== '') described.stack = mapped.slice(0, MAX_ERROR_STACK);
  return described;
}

/**
 * The first position in the user's own source; one in a package only where there is none of his.
 * @param {string} stack
 */
function firstPosition(stack) {
  /** @type {string | undefined} */
  let inPackage;
  // A syntax error has no column: it shows the line, and a caret below the place.
  const head = /^(\S+):(\d+)\n.*\n([ \t]*)\^/.exec(stack);
  const text = head ? `${head[1]}:${head[2]}:${/** @type {string} */ (head[3]).length + 1}\n${stack}` : stack;
  for (const match of text.matchAll(POSITION)) {
    const position = mapPositions(match[0]);
    if (position === match[0]) continue;
    if (!position.includes('node_modules/')) return position;
    inPackage ??= position;
  }
  return inPackage;
}

/**
 * Without the frames of the shim and of Node's inside.
 * @param {string} text
 */
function withoutInternals(text) {
  return text
    .split('\n')
    .filter((line) => !/^\s+at /.test(line) || !(line.includes(SHIM_FOLDER) || /[( ]node:/.test(line)))
    .join('\n');
}
