/** Answers of Redis as values: what it should have said is checked, so that a proxy's odd answer is no silent undefined. */
export function asList(reply: unknown): unknown[] {
  if (!Array.isArray(reply)) throw new TypeError(`Redis answered ${typeof reply} where a list was to come`);
  return reply;
}

export const asTexts = (reply: unknown): string[] => asList(reply).map(String);

/** Of HGETALL: field, value, field, value. */
export function asPairs<T>(reply: unknown, value: (one: unknown) => T): [string, T][] {
  const list = asList(reply);
  return Array.from({ length: list.length / 2 }, (_, index) => [String(list[2 * index]), value(list[2 * index + 1])]);
}

export const asTextOrNull = (reply: unknown): string | null => (reply === null || reply === undefined ? null : String(reply));

export function asBytes(reply: unknown): Buffer {
  if (!Buffer.isBuffer(reply)) throw new TypeError(`Redis answered ${typeof reply} where bytes were to come`);
  return reply;
}

/** By code units, as SQLite orders the names that there are (ASCII). */
export const byText = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
