/** Headers that the gateway adds to an answer, beside those of every one: which revision, stickiness, CORS. */
import { valueOf } from './flat-headers.ts';
import type { RouteMatch } from './routes.ts';
import { bucketCookie } from './traffic.ts';

/** The number of the revision that answered; said where more than one could have. */
export const REVISION_HEADER = 'fn-revision';

/** Sets them in `flat` (lower-case name, value, …), in place. Most answers need none. */
export function addHeaders(flat: string[], match: RouteMatch, requestHeaders: readonly string[], secure: boolean): void {
  const { entry, target, bucket, pinned } = match;
  if (entry.cors !== null) entry.cors.apply(flat, valueOf(requestHeaders, 'origin'));
  if (!pinned && bucket < 0) return;
  flat.push(REVISION_HEADER, String(target.number));
  const { sticky } = entry.route;
  if (match.freshBucket && sticky?.by === 'cookie')
    flat.push('set-cookie', bucketCookie(bucket, sticky, match.via === null ? match.prefix : match.via.cookiePath, secure));
}
