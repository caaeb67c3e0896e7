/** A bundle on its way into an instance: POST /.fn/code. */
import { createReadStream } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { request } from 'node:http';
import { join, relative, sep } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { CodeIndex, CodeReceived, HEADERS, MAX_CODE_INDEX_BYTES, RUNTIME_PATHS, type Address } from '#contract/runtime.ts';

/** An instance that takes nothing and says nothing for so long is broken, ms. */
const SILENCE_MS = 10_000;
/** All of it must be there by then, ms. */
const TOTAL_MS = 60_000;
/** What is read of an answer, bytes. */
const MAX_ANSWER_BYTES = 16_384;
/** Lists of bundles that are remembered: they are asked for again and again, and never change. */
const MAX_LISTS = 256;

interface CodeList {
  /** With its newline. */
  line: Buffer;
  files: string[];
  bytes: number;
}

/** What bundles hold, by folder. */
export class CodeLists {
  readonly #lists = new Map<string, Promise<CodeList>>();

  /** Throws where there are more files, or longer names, than an instance takes. */
  of(folder: string): Promise<CodeList> {
    let list = this.#lists.get(folder);
    if (list !== undefined) {
      // The newest is the last: what is used stays.
      this.#lists.delete(folder);
    } else {
      list = listCode(folder);
      list.catch(() => this.#lists.delete(folder));
    }
    this.#lists.set(folder, list);
    for (const oldest of this.#lists.keys()) {
      if (this.#lists.size <= MAX_LISTS) break;
      this.#lists.delete(oldest);
    }
    return list;
  }

  forget(folder: string): void {
    this.#lists.delete(folder);
  }
}

async function listCode(folder: string): Promise<CodeList> {
  const found = await readdir(folder, { withFileTypes: true, recursive: true });
  const paths = found.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  const stats = await Promise.all(paths.map((path) => stat(path)));
  const files = paths.map((path, index) => {
    const { size, mode } = stats[index]!;
    return { path: relative(folder, path).split(sep).join('/'), size, executable: (mode & 0o111) !== 0 };
  });
  const index = CodeIndex.safeParse({ files });
  if (!index.success)
    throw new Error(`the bundle cannot be sent: ${index.error.issues[0]?.path.join('.')}: ${index.error.issues[0]?.message}`);
  const line = Buffer.from(`${JSON.stringify(index.data)}\n`);
  if (line.length > MAX_CODE_INDEX_BYTES) throw new Error(`the list of the bundle's files is over ${MAX_CODE_INDEX_BYTES} bytes`);
  return { line, files: paths, bytes: files.reduce((sum, { size }) => sum + size, line.length) };
}

async function* contents({ line, files }: CodeList): AsyncGenerator<Buffer> {
  yield line;
  for (const file of files) for await (const chunk of createReadStream(file)) yield chunk;
}

/** Sends it. Throws where the instance does not take it, or does not answer. */
export async function sendCode(address: Extract<Address, { kind: 'tcp' }>, nonce: string, list: CodeList): Promise<void> {
  const signal = AbortSignal.timeout(TOTAL_MS);
  const outgoing = request({
    host: address.host,
    port: address.port,
    path: RUNTIME_PATHS.code,
    method: 'POST',
    agent: false,
    timeout: SILENCE_MS,
    signal,
    headers: {
      [HEADERS.instance]: address.instance,
      [HEADERS.nonce]: nonce,
      'content-type': 'application/octet-stream',
      'content-length': list.bytes,
    },
  });
  outgoing.on('timeout', () => outgoing.destroy(new Error(`the instance did nothing for ${SILENCE_MS} ms`)));
  const answered = new Promise<{ status: number; body: string; refused: string }>((resolve, reject) => {
    outgoing.on('error', reject);
    outgoing.on('response', (incoming) => {
      const chunks: Buffer[] = [];
      let length = 0;
      incoming.on('data', (chunk: Buffer) => {
        if ((length += chunk.length) <= MAX_ANSWER_BYTES) chunks.push(chunk);
      });
      incoming.on('error', reject);
      const refused = String(incoming.headers[HEADERS.refused] ?? '');
      incoming.on('end', () => {
        resolve({ status: incoming.statusCode ?? 0, body: Buffer.concat(chunks).toString('utf8'), refused });
        // One that refuses reads no more of it.
        if (incoming.statusCode !== 200) outgoing.destroy();
      });
    });
  });
  const sent = pipeline(contents(list), outgoing);
  // An instance that refuses says so before it has read all, and then takes no more: its answer counts.
  const [answer, sending] = await Promise.allSettled([answered, sent]);
  if (answer.status === 'rejected') throw new Error('the code could not be sent to the instance', { cause: answer.reason });
  const { status, body, refused } = answer.value;
  if (status !== 200) throw new Error(`the instance did not take the code: ${status} ${refused || body.slice(0, 500)}`.trimEnd());
  const received = CodeReceived.parse(JSON.parse(body));
  // Its receipt is what counts: a connection that closes as soon as all is there looks broken off from here.
  if (received.files === list.files.length && received.bytes === list.bytes - list.line.length) return;
  if (sending.status === 'rejected') throw sending.reason;
  throw new Error(`the instance got ${received.files} of ${list.files.length} files, ${received.bytes} bytes`);
}
