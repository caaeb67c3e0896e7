/** What somebody may have meant. */

/** A word that is as unlike as this is no typing error any more, in edits for each letter. */
const MAX_EDITS_PER_LETTER = 0.4;

const plain = (word: string): string => word.toLowerCase().replace(/[^a-z0-9]/g, '');

/** The candidate that is most like the word: but for case and hyphens, by its beginning, or but for a few letters; else null. */
export function similar(word: string, candidates: readonly string[]): string | null {
  const wanted = plain(word);
  const same = candidates.find((candidate) => plain(candidate) === wanted);
  if (same !== undefined) return same;
  const begins = candidates.find(
    (candidate) => wanted.length >= 3 && (plain(candidate).startsWith(wanted) || wanted.startsWith(plain(candidate))),
  );
  if (begins !== undefined) return begins;
  const ranked = candidates.map((candidate) => ({ candidate, edits: distance(wanted, plain(candidate)) }));
  const best = ranked.toSorted((a, b) => a.edits - b.edits)[0];
  return best && best.edits <= Math.max(1, Math.floor(wanted.length * MAX_EDITS_PER_LETTER)) ? best.candidate : null;
}

/** ` (did you mean X?)`, or nothing. */
export function didYouMean(word: string, candidates: readonly string[]): string {
  const found = similar(word, candidates);
  return found === null ? '' : ` (did you mean ${found}?)`;
}

/** Edits from one to the other: a letter more, less, another, or two that changed places. */
function distance(a: string, b: string): number {
  const rows: number[][] = [Array.from({ length: b.length + 1 }, (_, column) => column)];
  for (let i = 1; i <= a.length; i += 1) {
    const row = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1] ? rows[i - 2]![j - 2]! + 1 : Infinity;
      const changed = rows[i - 1]![j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      row.push(Math.min(rows[i - 1]![j]! + 1, row[j - 1]! + 1, changed, swapped));
    }
    rows.push(row);
  }
  return rows[a.length]![b.length]!;
}
