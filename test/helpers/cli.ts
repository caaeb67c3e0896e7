/** Runs the CLI in this process, with everything that it says caught. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import type { Context } from '../../cli/context.ts';
import { main } from '../../cli/main.ts';

export interface CliResult {
  code: number;
  stdout: string;
  stderr: string;
}

export interface CliOptions {
  env?: NodeJS.ProcessEnv;
  cwd?: string;
  home?: string;
  stdin?: string;
  signal?: AbortSignal;
  /** Whether stdout and stderr say that they are a terminal; stdin never is. */
  tty?: boolean;
  /** Width of that terminal. */
  columns?: number;
}

class Capture {
  readonly isTTY: boolean;
  readonly columns?: number;
  #chunks: Buffer[] = [];

  constructor({ tty = false, columns }: CliOptions) {
    this.isTTY = tty;
    if (columns !== undefined) this.columns = columns;
  }

  write(text: string | Uint8Array): boolean {
    this.#chunks.push(Buffer.from(text));
    return true;
  }

  get text(): string {
    return Buffer.concat(this.#chunks).toString('utf8');
  }
}

/** One command line, without the program's name. */
export async function runCli(argv: string[], options: CliOptions = {}): Promise<CliResult> {
  const { env = {}, cwd = tmpdir(), home = join(tmpdir(), 'fn-no-home'), stdin = '', signal } = options;
  const stdout = new Capture(options);
  const stderr = new Capture(options);
  const input = Object.assign(Readable.from(stdin === '' ? [] : [stdin]), { isTTY: false });
  const ctx: Context = { stdout, stderr, stdin: input, env, cwd, home, signal: signal ?? new AbortController().signal, patience: () => {} };
  const code = await main(argv, ctx);
  return { code, stdout: stdout.text, stderr: stderr.text };
}

/** A folder that is gone after the test. */
export function temporaryFolder(onFinished: (clean: () => void) => void): string {
  const folder = mkdtempSync(join(tmpdir(), 'fn-cli-'));
  onFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** A result as text, for snapshots: times, sizes, ages, digests, ports and folders change; nothing else may. */
export function stable({ code, stdout, stderr }: CliResult): string {
  const text = `exit ${code}\n--- stdout\n${stdout}--- stderr\n${stderr}`;
  return (
    text
      .replace(/\d+(?:\.\d+)? (?:ms|s)\b/g, 'TIME')
      // How wide a column is depends on what is in it.
      .replace(/ +TIME\b/g, ' TIME')
      .replace(/\d+(?:\.\d)? k?B\b/g, 'SIZE')
      .replace(/ +(?:\d+[smhd]|AGE)(?= )/g, ' AGE')
      .replace(/127\.0\.0\.1:\d{4,}/g, 'HOST')
      .replace(/sha256:[0-9a-f]{64}/g, 'DIGEST')
      .replace(/(?:\/[\w-]+)+\/fn-cli-\w+/g, 'FOLDER')
      .replace(/pid \d{5,}|pid \d+(?=, term)/g, 'pid PID')
  );
}
