/** What a client says of a call that is to be answered later: Prefer (RFC 7240), and the headers beside it. */
import { EVENT_HEADERS, MAX_DELAY_SECONDS, MAX_KEY_LENGTH } from '#contract/events.ts';

export const RESPOND_ASYNC = 'respond-async';

/** Parts between separators; those within quoted strings are none. */
function split(text: string, separator: string): string[] {
  const parts: string[] = [];
  let from = 0;
  let quoted = false;
  for (let i = 0; i < text.length; i++) {
    const char = text[i];
    if (quoted && char === '\\') i++;
    else if (char === '"') quoted = !quoted;
    else if (char === separator && !quoted) {
      parts.push(text.slice(from, i));
      from = i + 1;
    }
  }
  parts.push(text.slice(from));
  return parts;
}

/**
 * Does it ask for `respond-async`? Of a preference that is there twice the first counts; an empty value is none;
 * with another value it is a preference that nobody knows, and is ignored as those are, parameters too.
 */
export function prefersAsync(prefer: string): boolean {
  for (const preference of split(prefer, ',')) {
    const [name = '', value = ''] = split(split(preference, ';')[0]!, '=');
    if (name.trim().toLowerCase() === RESPOND_ASYNC) return value.trim() === '' || value.trim() === '""';
  }
  return false;
}

export interface EventOptions {
  idempotencyKey: string | null;
  delayMs: number;
  orderKey: string | null;
}

const KEY = new RegExp(`^[\\x21-\\x7e]{1,${MAX_KEY_LENGTH}}$`);
const DELAY = /^(\d{1,9}(?:\.\d{1,3})?)(s|m|h|d)?$/;
const UNIT_SECONDS = { s: 1, m: 60, h: 3_600, d: 86_400 };

/** Reads them from a request's raw headers (as of Node). A string says what is wrong with one. */
export function readEventOptions(raw: readonly string[]): EventOptions | string {
  const values = new Map<string, string>();
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i]!.toLowerCase();
    if (name !== EVENT_HEADERS.idempotencyKey && name !== EVENT_HEADERS.delay && name !== EVENT_HEADERS.orderKey) continue;
    if (values.has(name)) return `more than one ${name} header`;
    values.set(name, raw[i + 1]!);
  }
  const idempotencyKey = values.get(EVENT_HEADERS.idempotencyKey) ?? null;
  const orderKey = values.get(EVENT_HEADERS.orderKey) ?? null;
  for (const [name, key] of [
    [EVENT_HEADERS.idempotencyKey, idempotencyKey],
    [EVENT_HEADERS.orderKey, orderKey],
  ])
    if (key !== null && !KEY.test(key!)) return `${name} must be 1 to ${MAX_KEY_LENGTH} visible ASCII characters, without spaces`;
  const delayMs = delayOf(values.get(EVENT_HEADERS.delay));
  if (delayMs === null) return `${EVENT_HEADERS.delay} must be seconds, or a number with s, m, h or d (30s, 5m, 2h, 1d), up to 14d`;
  return { idempotencyKey, delayMs, orderKey };
}

/** Milliseconds; null where it is no delay, or too long a one. */
function delayOf(text: string | undefined): number | null {
  if (text === undefined) return 0;
  const match = DELAY.exec(text.trim());
  if (match === null) return null;
  const seconds = Number(match[1]) * UNIT_SECONDS[(match[2] ?? 's') as keyof typeof UNIT_SECONDS];
  return seconds <= MAX_DELAY_SECONDS ? Math.round(seconds * 1_000) : null;
}
