/** Shares of traffic as they are typed: `7=90 8=10`, `latest=100`. */
import type { Sticky } from '#contract/access.ts';
import type { FunctionView } from '#contract/function.ts';
import { Traffic } from '#contract/function.ts';
import { ManifestFunction } from '#contract/manifest.ts';
import type { CliError } from './errors.ts';
import { usageError } from './errors.ts';

const EXAMPLE = 'Such as: fn traffic NAME 7=90 8=10, or latest=100';

/** Throws usageError for what is no share, a revision that is not kept, and shares that do not sum up to 100. */
export function parseShares(words: readonly string[], kept: readonly number[]): Traffic {
  const shares = words.map((word) => {
    const [, name, percent] = /^(latest|\d{1,10})=(\d{1,3})%?$/.exec(word) ?? [];
    if (name === undefined || percent === undefined) throw usageError(`${JSON.stringify(word)} is not REVISION=PERCENT`, EXAMPLE);
    return { revision: name === 'latest' ? Math.max(...kept) : Number(name), percent: Number(percent) };
  });
  const stranger = shares.find(({ revision }) => !kept.includes(revision));
  if (stranger) throw noSuchRevision(stranger.revision, kept);
  const traffic = Traffic.safeParse(shares.filter(({ percent }) => percent > 0));
  if (traffic.success) return traffic.data;
  const sum = shares.reduce((total, { percent }) => total + percent, 0);
  throw usageError(sum === 100 ? (traffic.error.issues[0]?.message ?? '') : `the shares sum up to ${sum}, not to 100`, EXAMPLE);
}

export const noSuchRevision = (number: number, kept: readonly number[]): CliError =>
  usageError(`revision ${number} is not kept`, `Kept are: ${kept.join(', ')}. See fn revisions.`);

/** `cookie`, `header:NAME` or `none`. */
export function parseSticky(text: string): Sticky | null {
  if (text === 'none') return null;
  const sticky = ManifestFunction.shape.sticky.safeParse(text);
  if (!sticky.success || !sticky.data) throw usageError(`--sticky ${JSON.stringify(text)} is not cookie, header:NAME or none`);
  return sticky.data;
}

/**
 * The revision to go back to: the newest that is kept before the newest that gets traffic. So 8 alone
 * goes back to 7, and so does 7=90 8=10. Throws usageError where there is none.
 */
export function revisionBefore({ traffic, revisions }: Pick<FunctionView, 'traffic' | 'revisions'>): number {
  const newest = Math.max(...traffic.map(({ revision }) => revision));
  const before = revisions.filter((number) => number < newest);
  if (before.length === 0) throw usageError(`no revision before ${newest} is kept`, `Kept are: ${revisions.join(', ')}. See fn revisions.`);
  return Math.max(...before);
}

/** `7`, or `7=90 8=10`. */
export const trafficText = (traffic: Traffic): string =>
  traffic.length === 1 ? `${traffic[0]!.revision}` : traffic.map(({ revision, percent }) => `${revision}=${percent}`).join(' ');

/** In words, for people. */
export function stickyText(sticky: Sticky | null): string {
  if (sticky === null) return 'none: by chance for each request';
  return sticky.by === 'header' ? `by the header ${sticky.name}` : `by the cookie ${sticky.name}, for ${sticky.maxAgeSeconds} s`;
}
