/**
 * Fetches Debian packages with the machine's own apt sources and keys, signature-checked by apt.
 * Nothing is installed on the machine. mmdebstrap is used where it is installed; any Debian can also
 * do without it, by apt with a state folder of its own: both give the same .deb files.
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { LockedPackage } from './lock.ts';

const run = promisify(execFile);

/** A mirror that hangs must not hang the build. */
const FETCH_TIMEOUT_MS = 300_000;
const MAX_OUTPUT_BYTES = 16 * 1024 * 1024;

/** The base cannot be built on this machine; the message says what can be done. */
export class NoDebian extends Error {}

/** A locked version is not to be had any more. */
export class VersionGone extends Error {}

export interface DebFile extends LockedPackage {
  path: string;
}

interface Release {
  codename: string;
  isDebian: boolean;
}

function release(): Release {
  const text = existsSync('/etc/os-release') ? readFileSync('/etc/os-release', 'utf8') : '';
  const field = (name: string) => new RegExp(`^${name}="?([^"\n]*)"?$`, 'm').exec(text)?.[1] ?? '';
  return { codename: field('VERSION_CODENAME'), isDebian: field('ID') === 'debian' };
}

/** Debian's name of this machine's architecture. */
export function debianArch(): string {
  const names: Partial<Record<NodeJS.Architecture, string>> = {
    x64: 'amd64',
    arm64: 'arm64',
    arm: 'armhf',
    ppc64: 'ppc64el',
    s390x: 's390x',
  };
  return names[process.arch] ?? process.arch;
}

/** The name of the Debian release that the base comes from: this machine's. Throws NoDebian. */
export function debianCodename(): string {
  const { codename, isDebian } = release();
  if (isDebian && codename !== '') return codename;
  throw new NoDebian(
    'the base of the runtime images is made of Debian packages, and this machine is not Debian: build on a base image from a registry instead, ' +
      'for example `fn runtimes build --base debian:stable-slim` (any image with glibc 2.28 or later)',
  );
}

/** Of the machine's sources those of Debian itself, as apt lines; other repositories have no part in the base. */
export function debianSources(codename: string, files: string[]): string[] {
  const suites = new Set([codename, `${codename}-updates`, `${codename}-security`, `${codename}/updates`]);
  const lines: string[] = [];
  for (const text of files) {
    for (const line of text.split('\n')) {
      const match = /^deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)\s+(.*)$/.exec(line.trim());
      if (match && isDebianUri(match[1]!) && suites.has(match[2]!) && /\bmain\b/.test(match[3]!)) lines.push(line.trim());
    }
    for (const stanza of text.split(/\n\s*\n/)) lines.push(...deb822Lines(stanza, suites));
  }
  return [...new Set(lines)];
}

function deb822Lines(stanza: string, suites: Set<string>): string[] {
  const fields = new Map<string, string>();
  for (const line of stanza.split('\n')) {
    const match = /^([A-Za-z-]+):\s*(.*)$/.exec(line);
    if (match && !line.startsWith('#')) fields.set(match[1]!.toLowerCase(), match[2]!.trim());
  }
  const words = (name: string) => (fields.get(name) ?? '').split(/\s+/).filter(Boolean);
  if (!words('types').includes('deb') || !words('components').includes('main') || fields.get('enabled') === 'no') return [];
  const signedBy = fields.get('signed-by');
  const option = signedBy?.startsWith('/') ? `[signed-by=${signedBy}] ` : '';
  const lines: string[] = [];
  for (const uri of words('uris').filter(isDebianUri)) {
    for (const suite of words('suites').filter((one) => suites.has(one))) lines.push(`deb ${option}${uri} ${suite} main`);
  }
  return lines;
}

/** `…/debian` and `…/debian-security`, on whatever mirror. */
function isDebianUri(uri: string): boolean {
  return /\/debian(?:-security)?\/?$/.test(uri);
}

function machineSources(codename: string): string[] {
  const files: string[] = [];
  const parts = '/etc/apt/sources.list.d';
  if (existsSync('/etc/apt/sources.list')) files.push(readFileSync('/etc/apt/sources.list', 'utf8'));
  if (existsSync(parts)) {
    for (const name of readdirSync(parts).sort()) if (/\.(?:list|sources)$/.test(name)) files.push(readFileSync(join(parts, name), 'utf8'));
  }
  const lines = debianSources(codename, files);
  if (lines.length > 0) return lines;
  throw new Error(
    `apt on this machine has no source of Debian ${codename} itself (its suite and component main); add one to /etc/apt/sources.list, or take a base image: fn runtimes build --base IMAGE`,
  );
}

/** Which tool fetches; `apt` is on every Debian. */
export function fetchTool(path = process.env.PATH ?? ''): 'mmdebstrap' | 'apt' {
  return path.split(':').some((folder) => folder !== '' && existsSync(join(folder, 'mmdebstrap'))) ? 'mmdebstrap' : 'apt';
}

/**
 * Fetches the packages into `folder` (made, must be empty). With `pins` exactly those versions.
 * Throws VersionGone, NoDebian, or an Error with the tool's own words.
 */
export async function fetchPackages(
  names: readonly string[],
  pins: LockedPackage[] | null,
  folder: string,
  tool: 'mmdebstrap' | 'apt',
): Promise<DebFile[]> {
  const codename = debianCodename();
  mkdirSync(folder, { recursive: true });
  const wanted = names.map((name) => {
    const pin = pins?.find((one) => one.name === name);
    return pin ? `${name}=${pin.version}` : name;
  });
  try {
    if (tool === 'mmdebstrap') await fetchByMmdebstrap(codename, wanted, folder);
    else await fetchByApt(codename, wanted, folder);
  } catch (error) {
    const words = error instanceof Error && 'stderr' in error ? String(error.stderr) : String(error);
    const gone = /Version '[^']*' for '[^']*' was not found/.exec(words);
    if (gone) throw new VersionGone(gone[0]);
    const said = words.split('\n').filter((line) => /^[EW]:/.test(line));
    throw new Error(`Debian's packages could not be fetched with ${tool}: ${said.slice(0, 3).join('; ') || words.slice(-500)}`, {
      cause: error,
    });
  }
  return names.map((name) => debFile(name, folder));
}

async function fetchByMmdebstrap(codename: string, wanted: string[], folder: string): Promise<void> {
  const args = [
    '--variant=extract',
    '--format=null',
    `--include=${wanted.join(',')}`,
    `--extract-hook=copy-out /var/cache/apt/archives ${shellQuote(folder)}`,
  ];
  await run('mmdebstrap', [...args, codename, '/dev/null', ...machineSources(codename)], {
    timeout: FETCH_TIMEOUT_MS,
    maxBuffer: MAX_OUTPUT_BYTES,
  });
}

async function fetchByApt(codename: string, wanted: string[], folder: string): Promise<void> {
  const state = join(folder, 'apt');
  mkdirSync(join(state, 'lists', 'partial'), { recursive: true });
  mkdirSync(join(state, 'cache', 'archives', 'partial'), { recursive: true });
  writeFileSync(join(state, 'sources.list'), `${machineSources(codename).join('\n')}\n`);
  const settings = [
    `Dir::State=${state}`,
    `Dir::State::Lists=${join(state, 'lists')}`,
    'Dir::State::Status=/dev/null',
    `Dir::Cache=${join(state, 'cache')}`,
    `Dir::Etc::SourceList=${join(state, 'sources.list')}`,
    'Dir::Etc::SourceParts=-',
    // As root apt would drop to a user who cannot write our folder.
    `APT::Sandbox::User=${process.getuid?.() === 0 ? 'root' : ''}`,
    'Acquire::Languages=none',
  ].flatMap((setting) => ['-o', setting]);
  const options = { cwd: folder, timeout: FETCH_TIMEOUT_MS, maxBuffer: MAX_OUTPUT_BYTES, env: { ...process.env, LC_ALL: 'C.UTF-8' } };
  await run('apt-get', [...settings, '--quiet', 'update'], options);
  await run('apt-get', [...settings, '--quiet', 'download', ...wanted], options);
}

/** mmdebstrap splits the arguments of its hooks by the rules of a shell. */
function shellQuote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

function debFile(name: string, folder: string): DebFile {
  const places = [folder, join(folder, 'archives')].filter((place) => existsSync(place));
  for (const place of places) {
    const file = readdirSync(place).find((candidate) => candidate.startsWith(`${name}_`) && candidate.endsWith('.deb'));
    if (!file) continue;
    const [, version, arch] = /^[^_]+_([^_]+)_([^_]+)\.deb$/.exec(file) ?? [];
    if (!version || !arch) throw new Error(`not the name of a package file: ${file}`);
    const path = join(place, file);
    const sha256 = createHash('sha256').update(readFileSync(path)).digest('hex');
    return { name, version: decodeURIComponent(version), arch, sha256, path };
  }
  throw new Error(`the package ${name} was not fetched`);
}
