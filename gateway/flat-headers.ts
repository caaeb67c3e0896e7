/** Headers as a flat list: lower-case name, value, name, value, … */

/** The first value of this (lower-case) name. */
export function valueOf(flat: readonly string[], name: string): string | undefined {
  for (let i = 0; i < flat.length; i += 2) if (flat[i] === name) return flat[i + 1];
  return undefined;
}

/** Takes every header out, in place, whose (lower-case) name fits. */
export function dropHeaders(flat: string[], fits: (name: string) => boolean): void {
  let kept = 0;
  for (let i = 0; i < flat.length; i += 2) {
    if (fits(flat[i]!)) continue;
    flat[kept++] = flat[i]!;
    flat[kept++] = flat[i + 1]!;
  }
  flat.length = kept;
}
