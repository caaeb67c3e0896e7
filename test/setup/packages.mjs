/**
 * Installs the npm packages where they are missing or differ from package-lock.json, and finds the
 * Node that the project runs on. Plain JavaScript for Node 18 and up: the machine's own Node may be
 * older than what the project needs, which npm brings (package `node`).
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

export const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..', '..');

/** The Node that npm installed for us; the one the scripts and tests run on. */
export const NODE = join(ROOT, 'node_modules', 'node', 'bin', 'node');

/** @param {string} file */
function packagesOf(file) {
  return existsSync(file) ? Object.entries(JSON.parse(readFileSync(file, 'utf8')).packages ?? {}) : [];
}

/** Why an installation is needed, or null. By version, not by date: a checkout changes dates. */
export function whyInstall() {
  if (!existsSync(NODE)) return 'node_modules is missing or has no Node';
  const installed = new Map(packagesOf(join(ROOT, 'node_modules', '.package-lock.json')).map(([path, entry]) => [path, entry.version]));
  for (const [path, entry] of packagesOf(join(ROOT, 'package-lock.json'))) {
    if (path === '' || entry.optional || entry.devOptional || entry.peer || entry.link) continue;
    if (installed.get(path) !== entry.version) return `${path} is not at ${entry.version}`;
  }
  return null;
}

/** Runs `npm ci` where whyInstall() says so. Throws when it fails or leaves no Node. */
export function ensurePackages() {
  const why = whyInstall();
  if (why === null) return;
  process.stderr.write(`installing npm packages (${why})\n`);
  // Under `npm test` the very npm that runs us; else the one on the PATH.
  const [command, args] = process.env.npm_execpath ? [process.execPath, [process.env.npm_execpath, 'ci']] : ['npm', ['ci']];
  const run = spawnSync(command, args, { cwd: ROOT, stdio: ['ignore', 2, 2] });
  if (run.error) throw new Error(`npm could not be started: ${run.error.message}`);
  if (run.status !== 0) throw new Error(`npm ci failed with ${run.status ?? run.signal}`);
  if (!existsSync(NODE)) {
    throw new Error(
      `${NODE} is not there after npm ci: install scripts seem to be off. Run \`npm rebuild node esbuild --ignore-scripts=false\`.`,
    );
  }
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) ensurePackages();
