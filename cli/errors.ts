/** Errors of the CLI: which exit code, and how a person reads them. */
import { ERRORS } from '#contract/errors.ts';
import type { Problem } from '#contract/errors.ts';
import type { Painter } from './context.ts';

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
  cause?: unknown;
}

/** An error that is told to the person as it is. `message`: what went wrong, and where. */
export class CliError extends Error {
  readonly exitCode: ExitCode;
  readonly details: string[];
  readonly hint: string | undefined;

  constructor(message: string, { exitCode = EXIT.failed, details = [], hint, cause }: CliErrorOptions = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'CliError';
    this.exitCode = exitCode;
    this.details = details;
    this.hint = hint;
  }
}

/** Wrong use: exit code 2. */
export function usageError(message: string, hint?: string): CliError {
  return new CliError(message, { exitCode: EXIT.usage, hint });
}

function exitCodeOf({ status, code }: Problem): ExitCode {
  if (status === 401 || status === 403) return EXIT.notAuthorised;
  if (code === 'invalid' || code === 'bad-request') return EXIT.usage;
  return EXIT.failed;
}

/** The option that sets a field of the settings, where the name differs from the field's. */
const FLAGS: Record<string, string> = {
  memoryMib: '--memory',
  cpu: '--cpu',
  timeoutSeconds: '--timeout',
  keepAliveSeconds: '--keep-alive',
  concurrency: '--concurrency',
  min: '--min',
  max: '--max',
  egress: '--egress',
  env: '--env',
  runtime: '--runtime',
};

/** `/settings/memoryMib` is `--memory` to who typed it. */
export function fieldLabel(pointer: string): string {
  const [first, second, ...rest] = pointer.replace(/^\//, '').split('/');
  const flag = first === 'settings' && second !== undefined ? FLAGS[second] : undefined;
  return flag === undefined ? pointer : [flag, ...rest].join(' ');
}

/** Makes what the API answered into an error of the CLI. */
export function problemError(problem: Problem): CliError {
  const details = (problem.errors ?? []).map((field) => `${fieldLabel(field.pointer)}: ${field.detail}`);
  const { functionError } = problem;
  if (functionError) {
    const where = functionError.at === undefined ? '' : `${functionError.at}: `;
    details.push(`${where}${functionError.name}: ${functionError.message}`);
    details.push(...stackLines(functionError.stack));
  }
  const remedy = Object.entries(ERRORS).find(([code]) => code === problem.code)?.[1].remedy;
  return new CliError(`${problem.title}: ${problem.detail} (${problem.code})`, {
    exitCode: exitCodeOf(problem),
    details,
    hint: remedy,
  });
}

/** The `at …` lines of a stack; its message is shown already. */
function stackLines(stack: string | undefined): string[] {
  if (stack === undefined) return [];
  const lines = stack.split('\n').map((line) => line.trimEnd());
  return lines.filter((line) => /^\s*at /.test(line)).map((line) => `  ${line.trim()}`);
}

/** What a person reads on stderr: what went wrong, where, what to do next. */
export function renderError(error: CliError, paint: Painter): string {
  const lines = [`${paint('red', 'error:')} ${error.message}`, ...error.details.map((detail) => `  ${detail.replaceAll('\n', '\n  ')}`)];
  if (error.hint !== undefined) lines.push(`  ${paint('dim', '→')} ${error.hint}`);
  return `${lines.join('\n')}\n`;
}

/** Anything thrown, as an error that can be told. What nobody foresaw keeps its stack: it is a bug of fn. */
export function toCliError(error: unknown): CliError {
  if (error instanceof CliError) return error;
  if (error instanceof Error && 'code' in error && error.code === 'ENOSPC') return new CliError(`${error.message}`, { hint: 'Free some disk space.', cause: error });
  if (error instanceof Error) return new CliError(`unexpected: ${error.message}`, { details: stackLines(error.stack), hint: 'This is a bug of fn.', cause: error });
  return new CliError(`unexpected: ${String(error)}`, { hint: 'This is a bug of fn.' });
}
