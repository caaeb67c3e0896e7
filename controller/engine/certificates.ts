/**
 * Certificates of custom domains, from a folder: pairs NAME.crt (or .pem) and NAME.key, and folders as
 * Let's Encrypt's client makes them, NAME/fullchain.pem and NAME/privkey.pem. The folder is watched: a
 * pair that was renewed is in use without a restart. A pair that is not good is said so and left out;
 * the good one before it stays in use.
 */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { watch, type FSWatcher } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Certificate } from '#contract/link.ts';
import { hostMatches } from '#contract/route-order.ts';
import type { Clock } from '#kit/clock.ts';
import type { Log } from '#kit/log.ts';
import { messageOf } from './context.ts';

/** A renewal writes several files: it is read when nothing has changed for so long, ms. */
const SETTLE_MS = 200;
/** The folder is read at least this often, ms: links into other folders change without an event here. */
const POLL_MS = 30_000;
/** Largest file that is read, bytes. A chain of four certificates is some 8 KB. */
const MAX_FILE_BYTES = 256 * 1024;
/** Pairs that are read, and bytes of all together: they go to gateways in one message. */
const MAX_PAIRS = 1_000;
const MAX_ALL_BYTES = 16 * 1024 * 1024;
/** `fn status` names those that expire within this, days. */
const EXPIRY_NOTE_DAYS = 14;
const DAY_MS = 86_400_000;

interface Pair {
  name: string;
  cert: string;
  key: string;
}

/** A pair that is in use. `text` is what was read, to see what has changed. */
interface Loaded {
  certificate: Certificate;
  validTo: number;
  text: string;
}

export interface CertificatesOptions {
  /** null: there are none. */
  folder: string | null;
  clock: Clock;
  log: Log;
  onChange: () => void;
}

export class Certificates {
  readonly #options: CertificatesOptions;
  readonly #loaded = new Map<string, Loaded>();
  /** What was wrong with a pair, so that it is said once. */
  readonly #complaints = new Map<string, string>();
  #watcher: FSWatcher | null = null;
  #cancel: () => void = () => {};
  /** Something has changed, and is waited for to settle. */
  #settling = false;
  #reading: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(options: CertificatesOptions) {
    this.#options = options;
  }

  /** Those in use, by the name of their pair. */
  get current(): Certificate[] {
    return [...this.#loaded].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, { certificate }]) => certificate);
  }

  /** Whether there is a certificate for a host, or for all that the pattern of a route stands for. */
  covers(host: string): boolean {
    return this.current.some(({ names }) => names.some((name) => name === host || hostMatches(name, host)));
  }

  /** A sentence for each that has expired or soon will. */
  notes(): string[] {
    const now = this.#options.clock.wall();
    return [...this.#loaded].flatMap(([name, { validTo }]) => {
      if (validTo - now > EXPIRY_NOTE_DAYS * DAY_MS) return [];
      const day = new Date(validTo).toISOString().slice(0, 10);
      return [`The certificate ${name} ${validTo < now ? 'expired on' : 'expires on'} ${day}: put a renewed one in its place.`];
    });
  }

  /** Reads the folder, and watches it from then on. */
  async start(): Promise<void> {
    const { folder, log } = this.#options;
    if (folder === null) return;
    await this.#read(folder);
    try {
      this.#watcher = watch(folder, { recursive: true, persistent: false }, () => this.#touched(folder));
      this.#watcher.on('error', (error) =>
        log.warn({ folder, error: error.message }, 'certificates are looked for less often: their folder cannot be watched'),
      );
    } catch (error) {
      log.warn({ folder, error: messageOf(error) }, 'certificates are looked for less often: their folder cannot be watched');
    }
    this.#later(folder, POLL_MS);
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#cancel();
    this.#watcher?.close();
    await this.#reading;
  }

  #touched(folder: string): void {
    this.#settling = true;
    this.#later(folder, SETTLE_MS);
  }

  #later(folder: string, ms: number): void {
    if (this.#closed) return;
    this.#cancel();
    this.#cancel = this.#options.clock.after(ms, () => {
      this.#settling = false;
      this.#reading = this.#reading
        .then(() => this.#read(folder))
        .then((changed) => {
          if (changed && !this.#closed) this.#options.onChange();
          if (!this.#settling) this.#later(folder, POLL_MS);
        });
    });
  }

  /** Whether anything has changed. */
  async #read(folder: string): Promise<boolean> {
    const { log } = this.#options;
    let found: (Pair | string)[];
    try {
      found = await findPairs(folder);
    } catch (error) {
      this.#complain('', `the folder ${folder} cannot be read: ${messageOf(error)}`);
      return false;
    }
    this.#complaints.delete('');
    let changed = false;
    const names = new Set<string>();
    for (const pair of found) {
      const name = typeof pair === 'string' ? pair : pair.name;
      names.add(name);
      if (typeof pair === 'string') this.#complain(name, 'its certificate or its key is not there, or cannot be read');
      else if (this.#take(pair)) changed = true;
    }
    for (const name of [...this.#loaded.keys(), ...this.#complaints.keys()]) {
      if (names.has(name) || name === '') continue;
      this.#complaints.delete(name);
      if (this.#loaded.delete(name)) changed = true;
    }
    if (changed) log.info({ certificates: [...this.#loaded.keys()] }, 'certificates were read');
    return changed;
  }

  #take({ name, cert, key }: Pair): boolean {
    const text = `${cert}\n${key}`;
    if (this.#loaded.get(name)?.text === text) {
      this.#complaints.delete(name);
      return false;
    }
    try {
      const { names, validTo } = checkPair(cert, key, this.#options.clock.wall());
      this.#loaded.set(name, { certificate: { names, cert, key }, validTo, text });
      this.#complaints.delete(name);
      return true;
    } catch (error) {
      this.#complain(name, messageOf(error));
      return false;
    }
  }

  #complain(name: string, what: string): void {
    if (this.#complaints.get(name) === what) return;
    this.#complaints.set(name, what);
    const kept = this.#loaded.has(name) ? '; the one before it stays in use' : '';
    this.#options.log.error({ certificate: name, why: what }, `a certificate is not used${kept}`);
  }
}

/** Pairs in the folder; the name alone where one of the two files is not there or cannot be read. */
async function findPairs(folder: string): Promise<(Pair | string)[]> {
  const entries = await readdir(folder, { withFileTypes: true });
  const files = new Set(entries.map((entry) => entry.name));
  const wanted = new Map<string, { cert: string; key: string }>();
  for (const file of files) {
    const name = /^(.+)\.(?:crt|pem|key)$/.exec(file)?.[1];
    // NAME.crt wins where both are there.
    if (name !== undefined)
      wanted.set(name, { cert: join(folder, files.has(`${name}.crt`) ? `${name}.crt` : `${name}.pem`), key: join(folder, `${name}.key`) });
  }
  for (const entry of entries) {
    if (!entry.isDirectory() && !entry.isSymbolicLink()) continue;
    const inside = join(folder, entry.name);
    // What is no folder after all, or not ours to read, has no pair.
    const has = await readdir(inside).catch((): string[] => []);
    if (has.includes('fullchain.pem') || has.includes('privkey.pem'))
      wanted.set(entry.name, { cert: join(inside, 'fullchain.pem'), key: join(inside, 'privkey.pem') });
  }
  if (wanted.size > MAX_PAIRS) throw new Error(`there are ${wanted.size} certificates, and ${MAX_PAIRS} is the most`);
  const found = await Promise.all(
    [...wanted].map(async ([name, { cert, key }]) => {
      const [certText, keyText] = await Promise.all([readText(cert), readText(key)]);
      return certText === null || keyText === null ? name : { name, cert: certText, key: keyText };
    }),
  );
  const bytes = found.reduce((sum, pair) => sum + (typeof pair === 'string' ? 0 : pair.cert.length + pair.key.length), 0);
  if (bytes > MAX_ALL_BYTES) throw new Error(`its certificates are ${bytes} bytes, and ${MAX_ALL_BYTES} is the most`);
  return found;
}

/** null where it cannot be read, or is too large for what it should be. */
async function readText(path: string): Promise<string | null> {
  try {
    const data = await readFile(path);
    return data.length > MAX_FILE_BYTES ? null : data.toString('utf8');
  } catch {
    // Said by the caller, by the name of the pair.
    return null;
  }
}

/** The first certificate of the chain is the one that counts. Throws an Error that says what is wrong; it holds nothing of the key. */
function checkPair(cert: string, key: string, wallMs: number): { names: string[]; validTo: number } {
  const leaf = parse('the certificate is not one in PEM', () => new X509Certificate(cert));
  const privateKey = parse('the key is not one in PEM, or is encrypted', () => createPrivateKey(key));
  if (!leaf.checkPrivateKey(privateKey)) throw new Error('the key is not that of the certificate');
  const validTo = Date.parse(leaf.validTo);
  if (validTo <= wallMs) throw new Error(`it expired on ${leaf.validTo}`);
  if (Date.parse(leaf.validFrom) > wallMs) throw new Error(`it is not valid before ${leaf.validFrom}`);
  const names = [...(leaf.subjectAltName ?? '').matchAll(/DNS:([^,\s"]+)/g)].map((match) => match[1]!.toLowerCase());
  if (names.length === 0) throw new Error('it names no host (subjectAltName)');
  return { names, validTo };
}

function parse<T>(what: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw new Error(what, { cause: error });
  }
}
