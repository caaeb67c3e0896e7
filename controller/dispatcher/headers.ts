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
