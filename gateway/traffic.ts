/**
 * Which revision a request gets where traffic is split. What decides is a bucket of 0 to 9999: by chance,
 * from the hash of a header, or kept in a cookie. Every gateway gives a bucket the same revision, and
 * shifting traffic moves no more buckets than it has to.
 */
import type { RouteTarget } from '#contract/link.ts';

/** Buckets that the traffic of a function is divided into: a hundredth of a percent each. */
export const BUCKETS = 10_000;
const BUCKETS_PER_PERCENT = BUCKETS / 100;

const FNV_OFFSET = 0x811c_9dc5;
const FNV_PRIME = 0x0100_0193;

/** The bucket of a header's value: FNV-1a over its UTF-16 units, mixed as MurmurHash3 ends. The same everywhere and for ever. */
export function bucketOf(value: string): number {
  let hash = FNV_OFFSET;
  for (let i = 0; i < value.length; i++) hash = Math.imul(hash ^ value.charCodeAt(i), FNV_PRIME);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85eb_ca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2_ae35);
  return ((hash ^ (hash >>> 16)) >>> 0) % BUCKETS;
}

export const randomBucket = (): number => Math.floor(Math.random() * BUCKETS);

/** The targets that have a share, in the order of their numbers: so it does not matter how somebody listed them. */
export function sharesOf<T extends Pick<RouteTarget, 'percent' | 'number'>>(targets: readonly T[]): readonly T[] {
  return targets.filter((target) => target.percent > 0).sort((a, b) => a.number - b.number);
}

/** The target that a bucket belongs to. */
export function targetOf<T extends Pick<RouteTarget, 'percent'>>(shares: readonly T[], bucket: number): T {
  let end = 0;
  for (const target of shares) {
    end += target.percent * BUCKETS_PER_PERCENT;
    if (bucket < end) return target;
  }
  return shares.at(-1)!;
}

/** The bucket that a client's Cookie header holds under this name; null where it holds none, or what is none. */
export function bucketOfCookie(header: string, name: string): number | null {
  for (const part of header.split(';')) {
    const at = part.indexOf('=');
    if (at < 0 || part.slice(0, at).trim() !== name) continue;
    const value = part.slice(at + 1).trim();
    return /^(?:0|[1-9]\d{0,3})$/.test(value) ? Number(value) : null;
  }
  return null;
}

/** The Set-Cookie that keeps a client in its bucket. */
export function bucketCookie(
  bucket: number,
  { name, maxAgeSeconds }: { name: string; maxAgeSeconds: number },
  path: string,
  secure: boolean,
): string {
  return `${name}=${bucket}; Path=${path}; Max-Age=${maxAgeSeconds}; HttpOnly; SameSite=Lax${secure ? '; Secure' : ''}`;
}
