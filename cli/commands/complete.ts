import type { CommandSpec, Input } from '../command.ts';
import { VALUE_KINDS } from '../command.ts';
import type { Context } from '../context.ts';
import { print } from '../context.ts';
import { printable } from '../output.ts';

/** A person waits at the keyboard: what is not there by then is not offered. FN_COMPLETION_TIMEOUT_MS says otherwise. */
const TIMEOUT_MS = 1_000;
const MAX_TIMEOUT_MS = 60_000;
/** Beyond it nobody reads a list. */
const MAX_CANDIDATES = 1_000;

export const complete: CommandSpec = {
  name: 'complete',
  summary: 'print what could stand here, for completion scripts',
  args: [
    { name: 'kind', description: 'what is looked for', choices: VALUE_KINDS },
    { name: 'words', description: 'the command line so far', optional: true, variadic: true },
  ],
  examples: ['fn complete function -- logs', 'fn complete revision -- rollback -n shop api'],
  hidden: true,
  run,
};

/** A line for each: the value, a tab, and what it is. */
async function run(ctx: Context, input: Input): Promise<void> {
  const { candidates } = await import('../completion/candidates.ts');
  const kind = VALUE_KINDS.find((known) => known === input.arg(0))!;
  const signal = AbortSignal.any([ctx.signal, AbortSignal.timeout(timeoutMs(ctx.env.FN_COMPLETION_TIMEOUT_MS))]);
  try {
    for (const { value, description = '' } of (await candidates(kind, input.rest(1), { ...ctx, signal })).slice(0, MAX_CANDIDATES))
      print(ctx, `${plain(value)}\t${plain(description)}`);
  } catch {
    // No platform, no rights, no such function: there is nothing to offer, and a Tab is not the place to say why.
  }
}

/** What is no time is as good as none: a Tab is not the place to say so. */
function timeoutMs(said: string | undefined): number {
  const ms = Number(said);
  return ms >= 1 && ms <= MAX_TIMEOUT_MS ? Math.round(ms) : TIMEOUT_MS;
}

const plain = (text: string): string => printable(text).replaceAll(/\s+/g, ' ');
