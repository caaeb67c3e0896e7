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
}

class Capture {
  readonly isTTY = false;
  #chunks: Buffer[] = [];

  write(text: string | Uint8Array): boolean {
    this.#chunks.push(Buffer.from(text));
    return true;
  }

  get text(): string {
    return Buffer.concat(this.#chunks).toString('utf8');
  }
}

/** One command line, without the program's name. */
export async function runCli(
  argv: string[],
  { env = {}, cwd = tmpdir(), home = join(tmpdir(), 'fn-no-home'), stdin = '', signal }: CliOptions = {},
): Promise<CliResult> {
  const stdout = new Capture();
  const stderr = new Capture();
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
