/** Files of `NAME=VALUE` lines: of `--env-file`, `.env` and `.secrets`. */
import { parseEnv } from 'node:util';
import { usageError } from './errors.ts';

const ASSIGNMENT = /^\s*(?:export\s+)?[^\s=#][^=]*=\s*(?<quote>["'`])?(?<rest>.*)$/;

/**
 * Reads them as Node's own --env-file does, but leaves no line out: what is neither an assignment nor a comment is a
 * typing error, and Node says nothing of it. Throws usageError with the place; never says what stands there.
 */
export function readAssignments(text: string, file: string): Record<string, string> {
  const wrong = wrongLine(text);
  if (wrong !== null) throw usageError(`${file}:${wrong} is not NAME=VALUE`, 'Comments begin with #. Nothing was sent.');
  return { ...parseEnv(text) } as Record<string, string>;
}

/** Number of the first line that is no assignment, comment or part of a quoted value; null where there is none. */
function wrongLine(text: string): number | null {
  const lines = text.replace(/^\uFEFF/, '').split(/\r?\n/);
  for (let at = 0; at < lines.length; at++) {
    const line = lines[at]!;
    if (/^\s*(?:#|$)/.test(line)) continue;
    const found = ASSIGNMENT.exec(line)?.groups;
    if (found === undefined) return at + 1;
    const { quote, rest = '' } = found;
    if (quote === undefined || rest.includes(quote)) continue;
    // A quote that is closed further down holds several lines; one that is never closed is a part of its line.
    const end = lines.findIndex((later, index) => index > at && later.includes(quote));
    if (end !== -1) at = end;
  }
  return null;
}
