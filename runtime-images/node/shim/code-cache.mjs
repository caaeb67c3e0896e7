/**
 * V8's code cache of a large bundle: its bytecode, so that it need not be compiled again. The first instance of a revision
 * makes it, by Node's compile cache in a folder of its own; later ones find it beside their code. V8 takes it for the same source,
 * version and flags only; otherwise the code is compiled as ever, and the cache is made anew.
 */
import fs from 'node:fs';
import { join } from 'node:path';
import { MAX_CODE_CACHE_BYTES, MAX_CODE_CACHE_FILES } from './limits.mjs';

/** Below the code, where the platform has put one. */
const BESIDE_CODE = '.fn/code-cache';

/** @type {string | null} */
let folder = null;

/**
 * Before the code is loaded. Never throws: without a cache the code loads all the same.
 * @param {string} code
 */
export function openCodeCache(code) {
  try {
    const module = process.getBuiltinModule('node:module');
    if (typeof module.enableCompileCache !== 'function') return;
    const made = fs.mkdtempSync(join(process.env.TMPDIR ?? '/tmp', '.fn-code-cache-'));
    // Links: what V8 refuses, Node replaces, and a link that is still there was good.
    const beside = join(code, BESIDE_CODE);
    for (const version of fs.existsSync(beside) ? fs.readdirSync(beside) : []) {
      fs.mkdirSync(join(made, version));
      for (const name of fs.readdirSync(join(beside, version))) fs.symlinkSync(join(beside, version, name), join(made, version, name));
    }
    if (module.enableCompileCache(made).status === module.constants.compileCacheStatus.ENABLED) folder = made;
    else fs.rmSync(made, { recursive: true, force: true });
  } catch {
    // No room in /tmp, or not allowed: it is compiled, which is what there is without us.
    folder = null;
  }
}

/**
 * After the code is loaded: `hit` where the cache was taken as it was, `made` where there is a new one to be fetched.
 * @returns {'hit' | 'made' | null}
 */
export function settleCodeCache() {
  if (folder === null) return null;
  try {
    process.getBuiltinModule('node:module').flushCompileCache();
    const files = filesOf(folder);
    if (files.some(({ link }) => !link)) return 'made';
    return files.length > 0 ? 'hit' : null;
  } catch {
    return null;
  }
}

/**
 * What was made, once: a line of JSON that lists the files, and their bytes; null where there is none, or too much of it.
 * Nothing is left of it, for it lies in memory that is the function's.
 * @returns {Buffer | null}
 */
export function takeCodeCache() {
  const from = folder;
  if (from === null) return null;
  folder = null;
  try {
    const made = filesOf(from).filter(({ link }) => !link);
    const total = made.reduce((sum, { size }) => sum + size, 0);
    if (made.length === 0 || made.length > MAX_CODE_CACHE_FILES || total > MAX_CODE_CACHE_BYTES) return null;
    const index = made.map(({ path, size }) => ({ path, size }));
    const contents = made.map(({ path }) => fs.readFileSync(join(from, path)));
    return Buffer.concat([Buffer.from(`${JSON.stringify({ files: index })}\n`), ...contents]);
  } finally {
    fs.rmSync(from, { recursive: true, force: true });
  }
}

/** @param {string} from */
function filesOf(from) {
  return fs.readdirSync(from).flatMap((version) =>
    fs.readdirSync(join(from, version)).map((name) => {
      const info = fs.lstatSync(join(from, version, name));
      return { path: `${version}/${name}`, size: info.size, link: info.isSymbolicLink() };
    }),
  );
}
