/** Root file systems: what is kept of the packages, and the generated files, as one layer. */
import { spawn } from 'node:child_process';
import { extract } from 'tar-stream';
import { ADDED_FILES, ADDED_FOLDERS, CERTIFICATES, CERTIFICATE_BUNDLE, FORBIDDEN_NAMES, isKept, type Selection } from './definition.ts';
import type { DebFile } from './debian.ts';
import type { Layer } from './tar.ts';

/** Unpacked, all packages together; far above what they are. */
const MAX_UNPACKED_BYTES = 512 * 1024 * 1024;

/** Reads the base's packages and makes its layer. The order of `debs` must not matter; a file in two of them is an error. */
export async function rootfsLayer(debs: DebFile[]): Promise<Layer> {
  const layer: Layer = new Map();
  const certificates = new Map<string, Buffer>();
  for (const deb of debs) await readDeb(deb, layer, certificates, (path) => isKept(path));
  const names = [...certificates.keys()].sort();
  if (names.length === 0) throw new Error('ca-certificates holds no certificates: its layout has changed');
  const bundle = Buffer.concat(names.map((name) => withNewline(certificates.get(name)!)));
  layer.set(CERTIFICATE_BUNDLE, { type: 'file', mode: 0o644, content: bundle });
  for (const [path, text] of Object.entries(ADDED_FILES)) layer.set(path, { type: 'file', mode: 0o644, content: Buffer.from(text) });
  for (const [path, mode] of Object.entries(ADDED_FOLDERS)) layer.set(path, { type: 'directory', mode });
  refuseForbidden(layer, null);
  return layer;
}

/** The same for the packages that a runtime has above the base. */
export async function packagesLayer(debs: DebFile[], selection: Selection, links: Readonly<Record<string, string>>): Promise<Layer> {
  const layer: Layer = new Map();
  for (const deb of debs) await readDeb(deb, layer, new Map(), (path) => isKept(path, selection));
  for (const [path, target] of Object.entries(links)) layer.set(path, { type: 'symlink', target });
  return layer;
}

/** Throws where a layer holds a way to run what was not deployed. `allowed`: the path that is the runtime's own purpose. */
export function refuseForbidden(layer: Layer, allowed: RegExp | null): void {
  const forbidden = [...layer]
    .filter(([path, entry]) => entry.type !== 'directory' && FORBIDDEN_NAMES.test(path) && allowed?.test(path) !== true)
    .map(([path]) => path);
  if (forbidden.length > 0) throw new Error(`must not be in a runtime image: ${forbidden.join(', ')}`);
}

async function readDeb(deb: DebFile, layer: Layer, certificates: Map<string, Buffer>, wanted: (path: string) => boolean): Promise<void> {
  const child = spawn('dpkg-deb', ['--fsys-tarfile', deb.path], { stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  child.stderr.on('data', (chunk: Buffer) => (said = (said + chunk.toString()).slice(-2_000)));
  const exited = new Promise<void>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) =>
      code === 0 ? resolve() : reject(new Error(`dpkg-deb failed on ${deb.path}: ${said.trim() || `exit code ${code}`}`)),
    );
  });
  exited.catch(() => {}); // awaited below; until then it must not count as unhandled
  const reader = extract();
  child.stdout.on('error', (error) => reader.destroy(error));
  child.stdout.pipe(reader);
  let total = 0;
  for await (const entry of reader) {
    const path = entry.header.name.replace(/^\.?\//, '').replace(/\/$/, '');
    const certificate = path.startsWith(CERTIFICATES) && path.endsWith('.crt');
    const chunks: Buffer[] = [];
    for await (const chunk of entry as AsyncIterable<Buffer>) {
      total += chunk.length;
      if (total > MAX_UNPACKED_BYTES) throw new Error(`${deb.name} unpacks to over ${MAX_UNPACKED_BYTES} bytes`);
      chunks.push(chunk);
    }
    if (certificate) certificates.set(path, Buffer.concat(chunks));
    else if (wanted(path)) keep(layer, path, entry.header, Buffer.concat(chunks), deb.name);
  }
  await exited;
}

interface Header {
  type?: string | null | undefined;
  mode?: number | undefined;
  linkname?: string | null | undefined;
}

function keep(layer: Layer, path: string, header: Header, content: Buffer, owner: string): void {
  if (header.type === 'directory') return;
  if (layer.has(path)) throw new Error(`${path} is in two packages, the second is ${owner}`);
  if (header.type === 'symlink') {
    layer.set(path, { type: 'symlink', target: header.linkname ?? '' });
  } else if (header.type === 'file') {
    // Neither setuid nor writable by others, whatever the package says.
    layer.set(path, { type: 'file', mode: (header.mode ?? 0o644) & 0o755, content });
  } else if (header.type === 'link') {
    const target = (header.linkname ?? '').replace(/^\.?\//, '');
    const original = layer.get(target);
    if (original?.type !== 'file') throw new Error(`${path} in ${owner} is a hard link to ${target}, which is not kept`);
    layer.set(path, original);
  } else {
    throw new Error(`${path} in ${owner} is a ${header.type}: only files, folders and links belong in an image`);
  }
}

function withNewline(pem: Buffer): Buffer {
  return pem.at(-1) === 0x0a ? pem : Buffer.concat([pem, Buffer.from('\n')]);
}
