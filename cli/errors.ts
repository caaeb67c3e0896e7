/** Errors of the CLI: which exit code, and how a person reads them. */
import type { Painter } from './context.ts';
import { printable } from './output.ts';

/** Exit codes, a part of the interface (docs/cli.md). */
export const EXIT = {
  ok: 0,
  /** The function or the platform failed. */
  failed: 1,
  /** The command line, or what it names, is wrong. */
  usage: 2,
  notAuthorised: 3,
  /** Nothing answers: is it up? */
  unreachable: 4,
  /** Ctrl-C. */
  interrupted: 130,
} as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

export interface CliErrorOptions {
  exitCode?: ExitCode;
  /** More lines, shown as they are under the message. */
  details?: string[];
  /** What to do next. */
  hint?: string;
  /** Of the problem that the API answered with: function-not-found, … */
  code?: string;
  cause?: unknown;
}

/** An error that is told to the person as it is. `message`: what went wrong, and where. */
export class CliError extends Error {
  readonly exitCode: ExitCode;
  readonly details: string[];
  readonly hint: string | undefined;
  readonly code: string | undefined;

  constructor(message: string, { exitCode = EXIT.failed, details = [], hint, code, cause }: CliErrorOptions = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'CliError';
    this.exitCode = exitCode;
    this.details = details;
    this.hint = hint;
    this.code = code;
  }
}

/** Wrong use: exit code 2. */
export function usageError(message: string, hint?: string): CliError {
  return new CliError(message, { exitCode: EXIT.usage, hint });
}

/** The `at …` lines of a stack; its message is shown already. */
export function stackLines(stack: string | undefined): string[] {
  if (stack === undefined) return [];
  const lines = stack.split('\n').map((line) => line.trimEnd());
  return lines.filter((line) => /^\s*at /.test(line)).map((line) => `  ${line.trim()}`);
}

/** What a person reads on stderr: what went wrong, where, what to do next. */
export function renderError(error: CliError, paint: Painter): string {
  // A function's own words are among them, and the API's.
  const details = error.details.map((detail) => `  ${printable(detail).replaceAll('\n', '\n  ')}`);
  const lines = [`${paint('red', 'error:')} ${printable(error.message)}`, ...details];
  if (error.hint !== undefined) lines.push(`  ${paint('dim', '→')} ${printable(error.hint)}`);
  return `${lines.join('\n')}\n`;
}

const PATH_CODES = new Set(['EACCES', 'EEXIST', 'ELOOP', 'ENAMETOOLONG', 'ENOTDIR', 'EROFS']);

/** Anything thrown, as an error that can be told. What nobody foresaw keeps its stack: it is a bug of fn. */
export function toCliError(error: unknown): CliError {
  if (error instanceof CliError) return error;
  if (error instanceof Error && 'code' in error && error.code === 'ENOSPC')
    return new CliError(`${error.message}`, { hint: 'Free some disk space.', cause: error });
  // Almost always a path that was typed: --home, or a folder that belongs to someone else.
  if (error instanceof Error && 'code' in error && 'path' in error && typeof error.code === 'string' && PATH_CODES.has(error.code))
    return new CliError(error.message, {
      exitCode: EXIT.usage,
      hint: 'Check the path, and whose it is; --home DIR chooses another home.',
      cause: error,
    });
  if (error instanceof Error)
    return new CliError(`unexpected: ${error.message}`, { details: stackLines(error.stack), hint: 'This is a bug of fn.', cause: error });
  return new CliError(`unexpected: ${String(error)}`, { hint: 'This is a bug of fn.' });
}
