/** Headers as they are on the wire: names in lower case and values, one after the other. */

/** The first of this name; null: there is none. */
export function headerOf(headers: readonly string[], name: string): string | null {
  for (let index = 0; index + 1 < headers.length; index += 2) if (headers[index] === name) return headers[index + 1]!;
  return null;
}

/** Those whose names pass. */
export function pickHeaders(headers: readonly string[], wanted: (name: string) => boolean): string[] {
  const picked: string[] = [];
  for (let index = 0; index + 1 < headers.length; index += 2)
    if (wanted(headers[index]!)) picked.push(headers[index]!, headers[index + 1]!);
  return picked;
}

/** What Retry-After says, seconds: it is a number of them, or a date. null: it says neither. `now`: milliseconds since 1970. */
export function retryAfterOf(text: string | null | undefined, now: number): number | null {
  if (text === null || text === undefined || text.trim() === '') return null;
  const seconds = Number(text);
  if (Number.isFinite(seconds)) return seconds >= 0 ? seconds : null;
  const at = Date.parse(text);
  return Number.isNaN(at) ? null : Math.max(0, (at - now) / 1_000);
}
