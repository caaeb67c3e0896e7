/** Tells when the sources of a project change. */
import { type Stats, fstatSync, statSync } from 'node:fs';
import { extname } from 'node:path';
import { watch } from 'chokidar';

/** An editor writes a file in several steps, and a formatter once more: what comes within this time is one change. */
const SETTLE_MS = 40;

/** Folders that are not sources: made by tools, or by fn itself. */
const NOT_SOURCES = new Set([
  'node_modules',
  '.git',
  '.fn',
  'dist',
  'build',
  'coverage',
  '__pycache__',
  '.venv',
  'venv',
  '.mypy_cache',
  '.pytest_cache',
]);
/** Files that editors make beside the one that they write, and logs: each of our own lines would be a change. */
const NOT_FILES = new Set(['.swp', '.swx', '.tmp', '.pyc', '.log']);

/** Whether a path, relative or absolute, is left out. */
export function isLeftOut(path: string): boolean {
  const segments = path.split(/[/\\]/);
  const name = segments.at(-1) ?? '';
  return (
    segments.some((segment) => NOT_SOURCES.has(segment)) ||
    NOT_FILES.has(extname(name)) ||
    name.endsWith('~') ||
    name.startsWith('.#') ||
    name === '4913'
  );
}

/** Which file it is, by whatever name. */
const identityOf = ({ dev, ino }: Stats): string => `${dev}:${ino}`;

export interface ProjectWatcher {
  /** Idempotent. */
  close(): Promise<void>;
}

/**
 * Watches folders and single files; resolves when it does. `onChange` gets the paths, absolute, that
 * were added, changed or removed, once things have settled. Files that `outputs`, descriptors of this
 * process, are written to (`fn dev > out`) are none of its sources: a line of ours would be the next change.
 */
export async function watchProject(
  paths: readonly string[],
  onChange: (changed: string[]) => void,
  outputs: readonly number[] = [1, 2],
): Promise<ProjectWatcher> {
  const own = new Set(outputs.map((fd) => identityOf(fstatSync(fd))));
  // Only what lies below a watched path is judged: the project itself may be in a folder named build.
  const relative = (path: string): string => {
    const root = paths.find((candidate) => path === candidate || path.startsWith(`${candidate}/`));
    return root === undefined ? path : path.slice(root.length);
  };
  const watcher = watch([...paths], { ignoreInitial: true, ignored: (path) => isLeftOut(relative(path)) });
  const changed = new Set<string>();
  let timer: NodeJS.Timeout | undefined;
  watcher.on('all', (event, path) => {
    if (event === 'addDir' || event === 'unlinkDir') return;
    const stats = statSync(path, { throwIfNoEntry: false });
    if (stats !== undefined && own.has(identityOf(stats))) return;
    changed.add(path);
    clearTimeout(timer);
    timer = setTimeout(() => {
      const batch = [...changed];
      changed.clear();
      onChange(batch);
    }, SETTLE_MS);
  });
  await new Promise<void>((resolve, reject) => {
    watcher.once('ready', resolve);
    watcher.once('error', reject);
  });
  // A folder that goes away later is a change like any other, and no reason to end.
  watcher.on('error', () => undefined);
  return {
    close: async () => {
      clearTimeout(timer);
      await watcher.close();
    },
  };
}
