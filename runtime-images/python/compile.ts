/**
 * Compiles the Python files of a layer: an image is read-only, so Python would compile its standard
 * library at each start. Done by the very Python of the image, with the libraries of the image.
 */
import { execFile } from 'node:child_process';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { writeLayer, type Layer } from '../builder/tar.ts';

const run = promisify(execFile);

const COMPILE_TIMEOUT_MS = 120_000;
const TAG = 'cpython-311';

/** `a/b.py` → `a/__pycache__/b.cpython-311.pyc` */
const compiledName = (path: string): string => join(dirname(path), '__pycache__', `${path.slice(dirname(path).length + 1, -3)}.${TAG}.pyc`);

/**
 * In a fixed order, in one process, with hashes fixed: the same files give the same bytes. "Unchecked":
 * the source in a read-only image does not change, so Python need not look at it.
 */
const COMPILE = `
import py_compile, sys
root, listing = sys.argv[1:]
failed = []
for path in open(listing).read().split('\\n'):
    try:
        py_compile.compile(root + '/' + path, cfile=root + '/pyc/' + path + 'c', dfile='/' + path, doraise=True,
                           invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    except py_compile.PyCompileError as error:
        failed.append(path + ': ' + error.msg)
if failed:
    sys.exit('\\n'.join(failed))
`;

export async function compilePython(layer: Layer, below: readonly string[], work: string): Promise<void> {
  const sources = [...layer.keys()].filter((path) => path.endsWith('.py') && layer.get(path)?.type === 'file').sort();
  const root = join(work, 'compile');
  await mkdir(join(root, 'pyc'), { recursive: true });
  const own = join(work, 'uncompiled.tar');
  await writeLayer(layer, own);
  for (const tar of [...below, own]) await run('tar', ['-xf', tar, '-C', root, '--no-same-owner', '--exclude=dev/*']);
  const folders = [...new Set(sources.map((path) => dirname(path)))];
  for (const folder of folders) await mkdir(join(root, 'pyc', folder), { recursive: true });
  const listing = join(work, 'sources.txt');
  const script = join(work, 'compile.py');
  await writeFile(listing, sources.join('\n'));
  await writeFile(script, COMPILE);
  await run(loader(root), ['--library-path', libraries(root), join(root, 'usr/bin/python3.11'), '-I', '-S', '-B', script, root, listing], {
    timeout: COMPILE_TIMEOUT_MS,
    env: { PYTHONHOME: join(root, 'usr'), LC_ALL: 'C.UTF-8' },
  });
  for (const path of sources)
    layer.set(compiledName(path), { type: 'file', mode: 0o644, content: readFileSync(join(root, 'pyc', `${path}c`)) });
}

/** The image's own dynamic loader: this machine's may be of another Debian. */
function loader(root: string): string {
  for (const folder of ['lib64', 'lib']) {
    const place = join(root, folder);
    const name = existsSync(place) ? readdirSync(place).find((entry) => /^ld-linux.*\.so\.\d+$/.test(entry)) : undefined;
    if (name !== undefined) return join(place, name);
  }
  throw new Error('the base of the image has no dynamic loader: its layout has changed');
}

function libraries(root: string): string {
  return ['lib', 'usr/lib']
    .flatMap((folder) => readdirSync(join(root, folder), { withFileTypes: true }).map((entry) => ({ folder, entry })))
    .filter(({ entry }) => entry.isDirectory() && /-linux-gnu/.test(entry.name))
    .map(({ folder, entry }) => join(root, folder, entry.name))
    .join(':');
}
