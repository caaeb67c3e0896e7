/** Questions to a person, asked only where there is a terminal; and what is secret, from wherever it comes. */
import { once } from 'node:events';
import type { Context } from './context.ts';
import { CliError, EXIT, usageError } from './errors.ts';

/** Longest secret or token that is read from a stream, bytes: more than any may have. */
const MAX_SECRET_INPUT_BYTES = 1024 * 1024;

/** Whether somebody is there who can be asked. */
export const isInteractive = ({ stdin, stderr }: Context): boolean => stdin.isTTY === true && stderr.isTTY === true;

const interrupted = () => new CliError('interrupted', { exitCode: EXIT.interrupted });

/** Waits for an answer. At the end of input a question would stay open, with nothing left that keeps the process running. */
async function answerTo<T>(asked: Promise<T | symbol>): Promise<T> {
  const ended = once(process, 'beforeExit').then(() => Symbol('the end of input'));
  const answer = await Promise.race([asked, ended]);
  if (typeof answer === 'symbol') throw interrupted();
  return answer;
}

/** Whether to go on; only a person at a terminal is asked: a script has said what it wants. Throws CliError at Ctrl-C. */
export async function confirmed(ctx: Context, message: string, yes: boolean): Promise<boolean> {
  if (yes || !isInteractive(ctx)) return true;
  const { confirm } = await import('@clack/prompts');
  return answerTo<boolean>(confirm({ message, initialValue: false, output: process.stderr }));
}

/**
 * Something secret: asked for without an echo at a terminal, else all of stdin, of which the end of the
 * last line is not a part. Throws usageError where there is nothing.
 */
export async function readHidden(ctx: Context, message: string): Promise<string> {
  if (isInteractive(ctx)) {
    const { password } = await import('@clack/prompts');
    const typed = await answerTo<string>(password({ message, output: process.stderr, mask: '•' }));
    if (typed === '' || typed === undefined) throw usageError('nothing was typed', 'Type it, or send it to stdin: fn … < FILE');
    return typed;
  }
  if (ctx.stdin.isTTY === true) throw usageError('there is no terminal to ask on', 'Send it to stdin.');
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of ctx.stdin) {
    chunks.push(Buffer.from(chunk));
    bytes += Buffer.byteLength(chunk);
    if (bytes > MAX_SECRET_INPUT_BYTES) throw usageError(`stdin has more than ${MAX_SECRET_INPUT_BYTES} bytes`);
  }
  const text = utf8(Buffer.concat(chunks), 'stdin').replace(/\r?\n$/, '');
  if (text === '') throw usageError('stdin holds nothing', 'Send it to stdin, such as: fn … < FILE');
  return text;
}

/** Throws usageError where the bytes are no text. */
export function utf8(bytes: Uint8Array, from: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw usageError(`${from} is not UTF-8`, 'Encode what is binary, e.g. with base64.');
  }
}
