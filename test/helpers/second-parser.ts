/**
 * A second opinion on HTTP/1.1: h11, in a process of its own. It has nothing in common with llhttp, by which
 * Node reads requests in the gateway as well as in functions: where both make the same of some bytes, it is
 * not because both are the same program.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { z } from 'zod';
import { debianPackage } from './debian-package.ts';

const SeenRequest = z.object({
  method: z.string(),
  target: z.string(),
  version: z.string(),
  /** Lower-case name and value, in their order. */
  headers: z.array(z.tuple([z.string(), z.string()])),
  body: z.string().transform((text) => Buffer.from(text, 'base64')),
});
export type SeenRequest = z.infer<typeof SeenRequest>;

const Opinion = z.object({
  /** Those that are there from the first byte to the last. */
  requests: z.array(SeenRequest),
  /**
   * How it ends: with the last request (`clean`), within one (`partial`), by what is no HTTP (`refused`), by a request
   * after which the connection is used no more (`closed`), or after one that asks for another protocol (`paused`).
   */
  end: z.enum(['clean', 'partial', 'refused', 'closed', 'paused']),
  why: z.string().optional(),
});
export type Opinion = z.infer<typeof Opinion>;

export interface SecondParser {
  /** What a server sees in the bytes that came on one connection. One question at a time. */
  read(bytes: Buffer): Promise<Opinion>;
  stop(): Promise<void>;
}

export async function startSecondParser(): Promise<SecondParser> {
  const root = await debianPackage('python3-h11');
  const child = spawn('python3', [join(import.meta.dirname, 'second-parser.py')], {
    env: { ...process.env, PYTHONPATH: join(root, 'usr', 'lib', 'python3', 'dist-packages') },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  let said = '';
  child.stderr.on('data', (chunk) => (said += String(chunk)));
  const ended = once(child, 'close');
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const line = async (): Promise<unknown> => {
    const { value, done } = await lines.next();
    if (done === true) throw new Error(`the second parser ended\n${said}`);
    return JSON.parse(value);
  };
  await line();
  return {
    async read(bytes) {
      child.stdin.write(`${bytes.toString('base64')}\n`);
      return Opinion.parse(await line());
    },
    async stop() {
      child.stdin.end();
      await ended;
    },
  };
}
