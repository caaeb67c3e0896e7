/** The locked versions of an image's Debian packages: one line each, `name version architecture sha256-of-the-deb`. */
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';

export interface LockedPackage {
  name: string;
  version: string;
  /** `all`, or what dpkg calls the machine: `amd64`, `arm64`. */
  arch: string;
  /** Hex, of the .deb file. */
  sha256: string;
}

const HEADER =
  '# Debian packages: name, version, architecture, SHA-256 of the .deb.\n# Written by `node runtime-images/build.ts --update-lock`.\n';
const LINE = /^(?<name>[a-z0-9][a-z0-9+.-]+) (?<version>[A-Za-z0-9.+:~-]+) (?<arch>[a-z0-9]+) (?<sha256>[0-9a-f]{64})$/;

/** Throws on a line that is not one. */
export function parseLock(text: string): LockedPackage[] {
  const packages: LockedPackage[] = [];
  for (const [index, line] of text.split('\n').entries()) {
    if (line === '' || line.startsWith('#')) continue;
    const groups = LINE.exec(line)?.groups;
    if (!groups) throw new Error(`packages.lock:${index + 1}: not "name version architecture sha256": ${line}`);
    packages.push({ name: groups.name!, version: groups.version!, arch: groups.arch!, sha256: groups.sha256! });
  }
  return packages;
}

/** Empty where there is no file: a runtime whose packages were never locked. */
export function readLock(path: string): LockedPackage[] {
  return existsSync(path) ? parseLock(readFileSync(path, 'utf8')) : [];
}

/** The lock for a machine: of a lock with several architectures only what it can use. */
export function lockFor(packages: LockedPackage[], arch: string, names: readonly string[]): LockedPackage[] {
  return packages.filter((one) => names.includes(one.name) && (one.arch === arch || one.arch === 'all')).sort(byName);
}

/** Puts `now` in the place of what the lock said for this architecture; other architectures' lines stay. */
export function writeLock(path: string, before: LockedPackage[], now: LockedPackage[], arch: string): void {
  const others = before.filter((one) => one.arch !== arch && one.arch !== 'all');
  const lines = [...others, ...now].sort((a, b) => byName(a, b) || (a.arch < b.arch ? -1 : 1));
  const temporary = `${path}.${process.pid}.tmp`;
  writeFileSync(temporary, HEADER + lines.map((one) => `${one.name} ${one.version} ${one.arch} ${one.sha256}\n`).join(''));
  renameSync(temporary, path);
}

/** Sentences that say where `actual` is not what the lock names; empty where it is the same. */
export function lockDrift(locked: LockedPackage[], actual: LockedPackage[]): string[] {
  const drift: string[] = [];
  for (const one of actual) {
    const lockedOne = locked.find((candidate) => candidate.name === one.name);
    if (!lockedOne) drift.push(`${one.name} ${one.version} is not in the lock`);
    else if (lockedOne.version !== one.version) drift.push(`${one.name} is ${one.version}, the lock says ${lockedOne.version}`);
    else if (lockedOne.sha256 !== one.sha256) drift.push(`${one.name} ${one.version} has another digest than the lock says`);
  }
  return drift;
}

function byName(a: LockedPackage, b: LockedPackage): number {
  return a.name < b.name ? -1 : a.name > b.name ? 1 : 0;
}
