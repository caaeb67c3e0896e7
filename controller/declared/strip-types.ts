/**
 * TypeScript without its types, in a thread of its own. What is parsed here is a tenant's text: the parser recurses with it, and once
 * its memory was overrun it parses nothing any more, for nobody; and there are texts that it takes minutes for. So each object has a
 * parser for itself, for a limited time, and the controller's own thread goes on meanwhile.
 */
import { Worker } from 'node:worker_threads';
import { z } from 'zod';

/** For all files of an object, the start of the thread included, ms. */
const STRIP_TIMEOUT_MS = 10_000;
/** Of the thread's heap, MiB; what the parser has beside it grows with the text, which is limited. */
const MAX_HEAP_MIB = 128;

/** As text, since a program that is bundled has no file of it. */
const PROGRAM = `
const { parentPort, workerData } = require('node:worker_threads');
const { stripTypeScriptTypes } = require('node:module');
for (const [name, text] of workerData) {
  let said;
  try {
    said = { name, text: stripTypeScriptTypes(text) };
  } catch (error) {
    said = { name, fault: String(error instanceof Error ? error.message : error) };
  }
  parentPort.postMessage(said);
  if (said.fault !== undefined) break;
}
`;

const Said = z.union([z.object({ name: z.string(), text: z.string() }), z.object({ name: z.string(), fault: z.string() })]);

/** What is wrong with a file. */
export class CannotStrip extends Error {
  readonly file: string;

  constructor(file: string, message: string) {
    super(message);
    this.name = 'CannotStrip';
    this.file = file;
  }
}

/** The files by their names. Throws CannotStrip for the first that cannot be read. */
export async function stripTypes(files: ReadonlyMap<string, string>, timeoutMs = STRIP_TIMEOUT_MS): Promise<Map<string, string>> {
  if (files.size === 0) return new Map();
  const worker = new Worker(PROGRAM, {
    eval: true,
    workerData: [...files],
    env: {},
    // What it would say is a warning that this is an experiment.
    stdout: true,
    stderr: true,
    resourceLimits: { maxOldGenerationSizeMb: MAX_HEAP_MIB },
  });
  const done = new Map<string, string>();
  /** The one that it is at. */
  const current = () => [...files.keys()][done.size] ?? '';
  const timeout = Promise.withResolvers<never>();
  const timer = setTimeout(() => timeout.reject(new CannotStrip(current(), `was not read within ${timeoutMs} ms`)), timeoutMs);
  const all = new Promise<Map<string, string>>((resolve, reject) => {
    worker.on('message', (message: unknown) => {
      const said = Said.parse(message);
      if ('fault' in said) return reject(new CannotStrip(said.name, said.fault));
      done.set(said.name, said.text);
      if (done.size === files.size) resolve(done);
    });
    worker.once('error', (error) => reject(new CannotStrip(current(), `cannot be read: ${error.message}`)));
    worker.once('exit', () => reject(new CannotStrip(current(), 'cannot be read: the parser ended')));
  });
  try {
    return await Promise.race([all, timeout.promise]);
  } finally {
    clearTimeout(timer);
    await worker.terminate();
  }
}
