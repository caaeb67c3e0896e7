/** What a command may touch of its surroundings: handed in, so that a test sees the whole of it. */
import { styleText } from 'node:util';
import { defaultHome } from '#kit/paths.ts';

export interface Output {
  write(text: string | Uint8Array): unknown;
  readonly isTTY?: boolean;
  /** Width of the terminal. */
  readonly columns?: number;
}

export interface Context {
  /** Data, and nothing else. */
  stdout: Output;
  /** Talk: steps, notes, errors. */
  stderr: Output;
  stdin: AsyncIterable<Buffer | string> & { readonly isTTY?: boolean };
  env: NodeJS.ProcessEnv;
  cwd: string;
  /** Aborted by Ctrl-C. */
  signal: AbortSignal;
  /** Sets how long a command may tidy up after Ctrl-C before the process ends under it. */
  patience(ms: number): void;
  /** Folder with the state of the platform, absolute. */
  home: string;
  /** Which platform the command line names: by --context, or by --home. */
  said?: { context?: string | undefined; home?: boolean };
}

type Style = 'bold' | 'dim' | 'red' | 'green' | 'yellow' | 'cyan' | 'underline';

/** Whether escape sequences are welcome: on a terminal that has them, unless NO_COLOR (no-color.org) says otherwise. */
export function hasColor(output: Output, env: NodeJS.ProcessEnv): boolean {
  if (env.NO_COLOR !== undefined && env.NO_COLOR !== '') return false;
  if (env.FORCE_COLOR !== undefined && env.FORCE_COLOR !== '' && env.FORCE_COLOR !== '0') return true;
  return output.isTTY === true && env.TERM !== 'dumb';
}

export type Painter = (style: Style, text: string) => string;

/** Paints text for one output, or leaves it as it is. */
export function painter(output: Output, env: NodeJS.ProcessEnv): Painter {
  return hasColor(output, env) ? (style, text) => styleText(style, text, { validateStream: false }) : (_, text) => text;
}

/** The surroundings of the real process. */
export function processContext(interrupt: Pick<Context, 'signal' | 'patience'>): Context {
  return {
    ...interrupt,
    stdout: process.stdout,
    stderr: process.stderr,
    stdin: process.stdin,
    env: process.env,
    cwd: process.cwd(),
    home: defaultHome(),
  };
}

/** ` --home DIR` where commands would else mean another platform: what we advise is then right as it stands. */
export function homeFlag({ env, home }: Pick<Context, 'env' | 'home'>): string {
  if (home === defaultHome(env)) return '';
  return /^[\w./~-]+$/.test(home) ? ` --home ${home}` : ` --home '${home.replaceAll("'", String.raw`'\''`)}'`;
}

/** A line of talk. */
export function say(ctx: Context, line: string): void {
  ctx.stderr.write(`${line}\n`);
}

/** A line of data. */
export function print(ctx: Context, line: string): void {
  ctx.stdout.write(`${line}\n`);
}

/** Data for programs: one JSON document. */
export function printJson(ctx: Context, value: unknown): void {
  ctx.stdout.write(`${JSON.stringify(value, null, 2)}\n`);
}
