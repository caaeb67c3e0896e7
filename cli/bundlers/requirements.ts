/** The packages of a requirements.txt, as wheels for the runtime's Python, fetched by pip and kept in a cache. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { mkdir, mkdtemp, rename, rm } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import type { ArchiveFile } from '../archive.ts';
import { CliError } from '../errors.ts';

const run = promisify(execFile);

/** Where packages go in a bundle; the runtime puts it on sys.path. */
export const PACKAGES_FOLDER = 'site-packages';

/** Python of the runtime's image. */
const PYTHON_VERSION = '3.11';
/** An index that hangs must not hang a deployment. */
const INSTALL_TIMEOUT_MS = 600_000;
const MAX_OUTPUT_BYTES = 16 * 1024 * 1024;
/** Raise it when what is kept of an installation changes. */
const CACHE_FORMAT = 1;

/** glibc of the image is 2.36; a wheel names the oldest that it runs with. */
const MANYLINUX = ['2_36', '2_35', '2_34', '2_31', '2_28', '2_27', '2_24', '2_17', '2_12', '2_5'] as const;
const LEGACY = ['manylinux2014', 'manylinux2010', 'manylinux1'] as const;
const MACHINES: Partial<Record<NodeJS.Architecture, string>> = { x64: 'x86_64', arm64: 'aarch64', ppc64: 'ppc64le', s390x: 's390x' };

/** What pip writes about the installation itself: it differs each time, and nothing reads it at run time. */
const DROPPED =
  /(?:^|\/)(?:__pycache__\/.*(?<!\.cpython-311\.pyc)|[^/]+\.dist-info\/(?:RECORD|INSTALLER|REQUESTED|direct_url\.json))$|^bin\//;

/** Returns the files, below PACKAGES_FOLDER. Throws CliError with pip's own words and what to do. */
export async function vendorRequirements(file: string, say: (line: string) => void, signal: AbortSignal): Promise<ArchiveFile[]> {
  const key = cacheKey(file);
  const cache = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'fn', 'python');
  const place = join(cache, key ?? 'uncached');
  if (key !== null && existsSync(place)) return read(place);
  say('installing the packages of requirements.txt (pip)');
  await mkdir(cache, { recursive: true });
  const work = await mkdtemp(join(cache, 'install-'));
  try {
    const target = join(work, 'packages');
    await install(file, target, signal);
    await compile(target, signal);
    const files = read(target);
    if (key !== null && !existsSync(place)) await keep(target, place);
    return files;
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/** Another fn may have been first: then its packages are as good. */
async function keep(target: string, place: string): Promise<void> {
  try {
    await rename(target, place);
  } catch (error) {
    if (!existsSync(place)) throw error;
  }
}

/** Changes with the requirements, and those that they include; null where packages come from files, which change unseen. */
function cacheKey(file: string): string | null {
  const hash = createHash('sha256').update(`${CACHE_FORMAT} ${PYTHON_VERSION} ${process.arch}\n`);
  const seen = new Set<string>();
  const add = (path: string): boolean => {
    if (seen.has(path) || !existsSync(path)) return true;
    seen.add(path);
    const text = readFileSync(path, 'utf8');
    hash.update(text);
    for (const line of text.split('\n').map((one) => one.trim())) {
      if (/^(?:-e\b|--editable\b|\.|\/|file:)|@\s*file:|--find-links|^-f\b/.test(line)) return false;
      const included = /^(?:-r|--requirement|-c|--constraint)[\s=]+(\S+)/.exec(line)?.[1];
      if (included !== undefined && !add(resolve(dirname(path), included))) return false;
    }
    return true;
  };
  return add(file) ? hash.digest('hex').slice(0, 40) : null;
}

async function install(file: string, target: string, signal: AbortSignal): Promise<void> {
  const machine = MACHINES[process.arch] ?? process.arch;
  const platforms = [...MANYLINUX.map((glibc) => `manylinux_${glibc}_${machine}`), ...LEGACY.map((name) => `${name}_${machine}`)];
  const args = [
    ...['-m', 'pip', 'install', '--requirement', file, '--target', target],
    ...['--only-binary=:all:', '--implementation', 'cp', '--python-version', PYTHON_VERSION],
    ...platforms.flatMap((platform) => ['--platform', platform]),
    ...['--no-compile', '--no-input', '--disable-pip-version-check', '--no-warn-script-location', '--retries', '1', '--timeout', '15'],
    // As root pip warns of what does not concern a folder.
    ...['--root-user-action', 'ignore', '--quiet'],
  ];
  await mkdir(target, { recursive: true });
  try {
    await run('python3', args, { cwd: dirname(file), timeout: INSTALL_TIMEOUT_MS, maxBuffer: MAX_OUTPUT_BYTES, signal });
  } catch (error) {
    signal.throwIfAborted();
    throw failure(error);
  }
}

const ALTERNATIVE =
  'Or put the packages beside the function yourself, in a folder vendor or site-packages: pip install --target site-packages -r requirements.txt, where there is an index.';

/** What pip says where it reaches no index. */
const UNREACHABLE =
  /NewConnectionError|Max retries exceeded|Temporary failure in name resolution|Name or service not known|ConnectTimeoutError|ReadTimeoutError|ProxyError|Connection refused|Network is unreachable/;

function failure(error: unknown): CliError {
  const field = (name: string): string => (error instanceof Error ? String(Reflect.get(error, name) ?? '') : '');
  const words = field('stderr').trim();
  if (field('code') === 'ENOENT' || /No module named pip/.test(words))
    return new CliError('requirements.txt needs Python with pip on this machine, and there is none', {
      hint: `Install it (Debian, Ubuntu: sudo apt-get install python3-pip). ${ALTERNATIVE}`,
    });
  if (UNREACHABLE.test(words))
    return new CliError('the packages of requirements.txt could not be fetched: no package index answers', {
      details: tail(words),
      hint: `Is this machine online? Another index: PIP_INDEX_URL. ${ALTERNATIVE}`,
    });
  return new CliError('the packages of requirements.txt could not be installed', {
    details: tail(words === '' && error instanceof Error ? error.message : words),
    hint: `Only wheels for Python ${PYTHON_VERSION} on Linux are taken: nothing is compiled here. ${ALTERNATIVE}`,
  });
}

const tail = (words: string): string[] =>
  words
    .split('\n')
    .filter((line) => !line.startsWith('WARNING: Retrying') && line.trim() !== '')
    .slice(-6);

/**
 * Compiles the packages where this machine's Python is of the runtime's version: code in an instance
 * cannot be written, so each cold start would compile them again (Flask: half a second).
 */
async function compile(target: string, signal: AbortSignal): Promise<void> {
  const script = `import sys, compileall
if sys.version_info[:2] == (3, 11):
    import py_compile
    compileall.compile_dir(sys.argv[1], quiet=2, workers=1, stripdir=sys.argv[1], prependdir=sys.argv[2],
                           invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)`;
  // What does not compile is imported by nobody, or fails where it is imported, with its place.
  await run('python3', ['-c', script, target, `/fn/code/${PACKAGES_FOLDER}`], {
    timeout: INSTALL_TIMEOUT_MS,
    maxBuffer: MAX_OUTPUT_BYTES,
    signal,
    env: { ...process.env, PYTHONHASHSEED: '0', PYTHONDONTWRITEBYTECODE: '' },
  });
}

function read(folder: string): ArchiveFile[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => ({ path: join(entry.parentPath, entry.name), name: join(entry.parentPath, entry.name).slice(folder.length + 1) }))
    .filter(({ name }) => !DROPPED.test(name))
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .map(({ path, name }) => ({ name: `${PACKAGES_FOLDER}/${name}`, contents: readFileSync(path) }));
}
