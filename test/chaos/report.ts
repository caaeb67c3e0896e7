/** What a chaos run saw, for people: a line on stderr, and a file of JSON where FN_CHAOS_JSON names one. */
import { appendFileSync } from 'node:fs';

export function report(seen: { test: string } & Record<string, unknown>): void {
  process.stderr.write(`${JSON.stringify(seen)}\n`);
  const file = process.env.FN_CHAOS_JSON;
  if (file !== undefined) appendFileSync(file, `${JSON.stringify({ at: new Date().toISOString(), ...seen })}\n`);
}
