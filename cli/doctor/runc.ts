/** Is this runc one that a container is known to break out of? Told from its version, or from what its package says it fixes. */
import { existsSync, readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import type { Finding } from './finding.ts';

interface Escape {
  cve: string;
  what: string;
  /** The first good release of each branch that got the fix. Later branches have it from their start. */
  fixedIn: string[];
}

/** Sources: the advisories of opencontainers/runc. */
export const ESCAPES: readonly Escape[] = [
  { cve: 'CVE-2019-5736', what: 'overwriting the host’s runc binary', fixedIn: ['1.0.0'] },
  { cve: 'CVE-2024-21626', what: 'file descriptors leaked into the container', fixedIn: ['1.1.12'] },
  { cve: 'CVE-2025-31133', what: 'masked paths through a replaced /dev/null', fixedIn: ['1.2.8', '1.3.3', '1.4.0-rc.3'] },
  { cve: 'CVE-2025-52565', what: 'mounting over /dev/console', fixedIn: ['1.2.8', '1.3.3', '1.4.0-rc.3'] },
  { cve: 'CVE-2025-52881', what: 'redirected writes to /proc', fixedIn: ['1.2.8', '1.3.3', '1.4.0-rc.3'] },
];

interface Version {
  numbers: [number, number, number];
  /** Of a release candidate; Infinity of a release. */
  candidate: number;
}

/** `1.1.5+ds1` → 1.1.5; what a distribution adds says nothing about upstream. */
export function parseVersion(text: string): Version | null {
  const match = /(\d+)\.(\d+)\.(\d+)(?:[-~]rc[.-]?(\d+))?/.exec(text);
  if (!match) return null;
  return {
    numbers: [Number(match[1]), Number(match[2]), Number(match[3])],
    candidate: match[4] === undefined ? Infinity : Number(match[4]),
  };
}

function isBefore(a: Version, b: Version): boolean {
  for (const index of [0, 1, 2] as const) if (a.numbers[index] !== b.numbers[index]) return a.numbers[index] < b.numbers[index];
  return a.candidate < b.candidate;
}

/** Whether a release of upstream holds the fix: it is on a branch that got it, after that, or on a later branch. */
export function isFixed(version: Version, fixedIn: readonly string[]): boolean {
  const fixes = fixedIn.map((text) => parseVersion(text)!);
  const sameBranch = fixes.find(({ numbers }) => numbers[0] === version.numbers[0] && numbers[1] === version.numbers[1]);
  if (sameBranch) return !isBefore(version, sameBranch);
  return fixes.every((fix) => !isBefore(version, fix));
}

/** Distributions mend old versions without a new number; their changelog names what was mended. */
export function fixedByPackage(changelog: string, cve: string): boolean {
  return new RegExp(`\\b${cve}\\b`).test(changelog);
}

const CHANGELOG = '/usr/share/doc/runc/changelog.Debian.gz';

/** `version`: as runc or the engine says it. `packageVersion`: Debian's, where it comes from there. */
export function examineRunc(version: string, packageVersion: string | null, changelog: string): Finding {
  const what = 'runc';
  const parsed = parseVersion(version);
  if (!parsed) return { level: 'warn', what, found: `its version cannot be read: ${version}`, remedy: 'runc --version' };
  const name = packageVersion === null ? version : `${version} (package ${packageVersion})`;
  const open = ESCAPES.filter(({ cve, fixedIn }) => !isFixed(parsed, fixedIn) && !fixedByPackage(changelog, cve));
  const mended = ESCAPES.filter(({ cve, fixedIn }) => !isFixed(parsed, fixedIn) && fixedByPackage(changelog, cve)).map(({ cve }) => cve);
  const note = mended.length === 0 ? '' : `; the package carries the fix of ${mended.join(', ')}`;
  if (open.length === 0) return { level: 'ok', what, found: `${name}: no known escape${note}` };
  return {
    level: 'warn',
    what,
    found: `${name}: nothing shows that these escapes are fixed: ${open.map((escape) => `${escape.cve} (${escape.what})`).join(', ')}${note}`,
    remedy:
      packageVersion === null
        ? 'Install runc 1.2.8, 1.3.3 or newer.'
        : 'apt-get update && apt-get install runc; where no fix is to be had, run only code that you trust.',
  };
}

/** What the Debian package says it fixed; empty where runc comes from elsewhere. */
export function runcChangelog(): string {
  return existsSync(CHANGELOG) ? gunzipSync(readFileSync(CHANGELOG)).toString('utf8') : '';
}
