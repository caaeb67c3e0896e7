/**
 * How a link over TCP begins: the dialling end shows its token in one line, and the other end answers in one, before
 * any of the two says anything of its own. `fn` is the version of this greeting.
 *
 *     {"fn":1,"token":"…"}
 *     {"fn":1}                       or   {"fn":1,"refused":"token"}
 */
import { z } from 'zod';
import { encodeLine } from './ndjson.ts';

/** Longest greeting and longest answer to it, bytes, with the newline. */
export const MAX_GREETING_BYTES = 1_024;
const VERSION = 1;

const Greeting = z.strictObject({ fn: z.literal(VERSION), token: z.string() });
const Answer = z.object({ fn: z.literal(VERSION), refused: z.string().max(200).optional() });

export const greetingLine = (token: string): string => encodeLine({ fn: VERSION, token });
export const welcomeLine = (): string => encodeLine({ fn: VERSION });
export const refusalLine = (why: string): string => encodeLine({ fn: VERSION, refused: why });

/** The token that a greeting shows; null: it is none. */
export function tokenOf(line: string): string | null {
  return read(Greeting, line)?.token ?? null;
}

/** Why the other end refused; null: it did not. Throws where the line is no answer to a greeting. */
export function refusalOf(line: string): string | null {
  const answer = line.length > MAX_GREETING_BYTES ? null : read(Answer, line);
  if (answer === null) throw new Error('what answers there does not speak as a link of fn over TCP does');
  return answer.refused ?? null;
}

function read<T>(schema: z.ZodType<T>, line: string): T | null {
  try {
    return schema.parse(JSON.parse(line));
  } catch {
    // Whatever is wrong with it, it is no greeting; what it says is the peer's, and not for the log.
    return null;
  }
}
