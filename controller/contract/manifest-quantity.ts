/** Numbers of fn.yaml that may be written with a unit. */
import { z } from 'zod';

interface Quantity {
  /** Bounds, and whether it must be whole. */
  bounds: z.ZodNumber;
  pattern: RegExp;
  /** Units, by the text after the number. */
  units: Readonly<Record<string, number>>;
  /** The whole message where it is not right. */
  words: string;
}

/** A number in the contract's unit, or text with a unit. */
export function quantity({ bounds, pattern, units, words }: Quantity) {
  const inBounds = z
    .number(words)
    .min(bounds.minValue ?? 0, words)
    .max(bounds.maxValue ?? Number.MAX_SAFE_INTEGER, words);
  const number = isWhole(bounds) ? inBounds.int(words) : inBounds;
  return z.union([number, z.string().regex(pattern, words)], { error: words }).transform((given, context) => {
    const value = typeof given === 'number' ? given : withUnit(given, units);
    if (bounds.safeParse(value).success) return value;
    context.addIssue({ code: 'custom', message: words, input: given });
    return z.NEVER;
  });
}

const isWhole = ({ format }: z.ZodNumber): boolean => format !== null && format.includes('int');

/** `1.5Gi` → 1536. Rounded to a millionth: 0.1 × 3 is no whole number else. */
function withUnit(text: string, units: Readonly<Record<string, number>>): number {
  const [, digits = '', unit = ''] = /^([\d.]+) ?([A-Za-z]*)$/.exec(text) ?? [];
  return Math.round(Number(digits) * (units[unit] ?? Number.NaN) * 1e6) / 1e6;
}

export const BINARY_UNITS_MIB = { '': 1, M: 1, Mi: 1, MB: 1, MiB: 1, G: 1_024, Gi: 1_024, GB: 1_024, GiB: 1_024 };
export const BINARY_UNITS_BYTES = {
  '': 1,
  K: 1_024,
  Ki: 1_024,
  KB: 1_024,
  KiB: 1_024,
  M: 2 ** 20,
  Mi: 2 ** 20,
  MB: 2 ** 20,
  MiB: 2 ** 20,
  G: 2 ** 30,
  Gi: 2 ** 30,
  GB: 2 ** 30,
  GiB: 2 ** 30,
};
const TIME_UNITS_SECONDS = { '': 1, ms: 0.001, s: 1, m: 60, h: 3_600, d: 86_400 };
const DURATION_PATTERN = /^\d+(?:\.\d+)? ?(?:ms|s|m|h|d)?$/;

/** A duration → seconds. */
export const seconds = (bounds: z.ZodNumber, range: string, words = `must be a time ${range}, such as 30 (seconds), 30s, 5m or 1h`) =>
  quantity({ bounds, pattern: DURATION_PATTERN, units: TIME_UNITS_SECONDS, words });
