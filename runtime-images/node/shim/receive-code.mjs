/**
 * POST code: the files of the bundle as they come, written below FN_CODE. Where anything is wrong with them, what was
 * written is removed. Writes are synchronous: an instance that waits for its code has nothing else to do but to answer
 * health, which it does between two chunks, and small bundles are there without a turn of the thread pool.
 */
import fs from 'node:fs';
import { join } from 'node:path';
import { MAX_CODE_BYTES, MAX_CODE_FILES, MAX_CODE_FOLDERS, MAX_CODE_INDEX_BYTES, MAX_CODE_PATH } from './limits.mjs';

/** @typedef {import('node:http').IncomingMessage} IncomingMessage */
/** @typedef {{ path: string, size: number, executable: boolean }} CodeFile */

const LF = 0x0a;
/** What the file system says where a limit of its own is reached, and where it cannot have such a name. */
const NO_ROOM = new Set(['ENOSPC', 'EDQUOT', 'EFBIG']);
const NO_NAME = new Set(['ENAMETOOLONG', 'EILSEQ', 'EINVAL']);

/** What is wrong with the body: the status that it is answered with. */
export class BadCode extends Error {
  /**
   * @param {413 | 422} status
   * @param {string} message
   */
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Where the code of this instance goes, once. */
export class CodeFolder {
  #folder;
  /** @type {'none' | 'receiving' | 'received'} */
  phase = 'none';

  /** @param {string | undefined} folder FN_CODE; nothing where code does not come over the network */
  constructor(folder) {
    this.#folder = folder;
  }

  get expected() {
    return this.#folder !== undefined && this.#folder !== '';
  }

  /**
   * Rejects with BadCode, with what the file system says, or with AbortError where the body stops in the middle. Then there is nothing of it.
   * @param {IncomingMessage} req
   * @param {() => boolean} wanted looked at when all is there
   * @returns {Promise<{ files: number, bytes: number } | null>} null where it is not wanted any more
   */
  async receive(req, wanted) {
    this.phase = 'receiving';
    const length = req.headers['content-length'];
    const writer = new CodeWriter(/** @type {string} */ (this.#folder), length === undefined ? null : Number(length));
    let kept = false;
    try {
      await feed(req, writer);
      kept = wanted();
      if (!kept) return null;
      writer.seal();
      return writer.received;
    } catch (error) {
      kept = false;
      throw inWords(error);
    } finally {
      if (!kept) writer.remove();
      this.phase = kept ? 'received' : 'none';
    }
  }
}

/** @param {unknown} error */
function inWords(error) {
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  if (NO_ROOM.has(code)) return new BadCode(413, `there is no room for the code (${code})`);
  if (NO_NAME.has(code)) return new BadCode(422, `the file system cannot have such a path (${code})`);
  return error;
}

/**
 * What comes after an error is read and thrown away: were the connection closed, the answer could be lost.
 * @param {IncomingMessage} req
 * @param {CodeWriter} writer
 * @returns {Promise<void>}
 */
function feed(req, writer) {
  return new Promise((resolve, reject) => {
    let over = false;
    /** @param {() => void} step */
    const attempt = (step) => {
      if (over) return;
      try {
        step();
      } catch (error) {
        over = true;
        reject(error);
      }
    };
    req.on('data', (/** @type {Buffer} */ chunk) => attempt(() => writer.push(chunk)));
    req.on('end', () =>
      attempt(() => {
        writer.end();
        over = true;
        resolve();
      }),
    );
    const gone = () =>
      attempt(() => {
        throw new DOMException('the client closed the connection before the code was complete', 'AbortError');
      });
    req.on('error', gone);
    req.on('close', gone);
  });
}

/** Takes the body apart: a line of JSON (CodeIndex of the contract), then the bytes of its files. */
class CodeWriter {
  #folder;
  #length;
  /** @type {Buffer[]} The line as far as it came. */
  #line = [];
  #lineBytes = 0;
  /** @type {CodeFile[] | null} */
  #files = null;
  #next = 0;
  /** The file that is open, and what it still lacks, bytes. */
  #file = -1;
  #left = 0;
  #bytes = 0;
  /** @type {Set<string>} Folders of the code, parents first. */
  #folders = new Set();
  /** @type {Set<string>} What was made directly in the folder. */
  #made = new Set();

  /**
   * @param {string} folder
   * @param {number | null} length of the whole body, where it is said
   */
  constructor(folder, length) {
    this.#folder = folder;
    this.#length = length;
  }

  get received() {
    return { files: this.#files?.length ?? 0, bytes: this.#bytes };
  }

  /** @param {Buffer} chunk */
  push(chunk) {
    const rest = this.#files === null ? this.#index(chunk) : chunk;
    for (let at = 0; at < rest.length;) {
      if (this.#file < 0) throw new BadCode(422, 'the body is longer than its files');
      const part = rest.subarray(at, at + this.#left);
      writeAll(this.#file, part);
      at += part.length;
      this.#left -= part.length;
      if (this.#left === 0) this.#open();
    }
  }

  /** The body is complete. */
  end() {
    if (this.#files === null) throw new BadCode(422, 'the body has no line that lists its files');
    if (this.#file >= 0) throw new BadCode(422, 'the body ends before its files do');
  }

  /** Nothing is to be changed any more, not by accident either. The folder itself may be a mount of somebody else's: then it stays as it is. */
  seal() {
    for (const folder of this.#folders) fs.chmodSync(join(this.#folder, folder), 0o555);
    try {
      fs.chmodSync(this.#folder, 0o555);
    } catch (error) {
      if (!(error instanceof Error) || !('code' in error) || (error.code !== 'EPERM' && error.code !== 'EROFS')) throw error;
    }
  }

  remove() {
    if (this.#file >= 0) fs.closeSync(this.#file);
    this.#file = -1;
    for (const folder of this.#folders) if (fs.existsSync(join(this.#folder, folder))) fs.chmodSync(join(this.#folder, folder), 0o755);
    for (const name of this.#made) fs.rmSync(join(this.#folder, name), { recursive: true, force: true });
  }

  /** @param {Buffer} chunk @returns {Buffer} what comes after the line */
  #index(chunk) {
    const end = chunk.indexOf(LF);
    const part = end < 0 ? chunk : chunk.subarray(0, end);
    this.#lineBytes += part.length;
    if (this.#lineBytes > MAX_CODE_INDEX_BYTES) throw new BadCode(413, `the list of files is over ${MAX_CODE_INDEX_BYTES} bytes`);
    this.#line.push(part);
    if (end < 0) return Buffer.alloc(0);
    const files = parseIndex(Buffer.concat(this.#line));
    this.#line = [];
    this.#bytes = checkSizes(files);
    this.#folders = checkPaths(files);
    const expected = this.#lineBytes + 1 + this.#bytes;
    if (this.#length !== null && this.#length !== expected) {
      throw new BadCode(422, `the files have ${expected} bytes with their list, the body has ${this.#length}`);
    }
    this.#files = files;
    for (const folder of this.#folders) this.#make(folder, (path) => fs.mkdirSync(path, 0o755));
    this.#open();
    return chunk.subarray(end + 1);
  }

  /** The next file that has bytes to come; those without are made at once. */
  #open() {
    if (this.#file >= 0) fs.closeSync(this.#file);
    this.#file = -1;
    for (let file = this.#files?.[this.#next++]; file !== undefined; file = this.#files?.[this.#next++]) {
      this.#file = this.#make(file.path, (path) => fs.openSync(path, 'wx', file.executable ? 0o555 : 0o444));
      this.#left = file.size;
      if (file.size > 0) return;
      fs.closeSync(this.#file);
      this.#file = -1;
    }
  }

  /**
   * What was there before is not ours to remove.
   * @template T
   * @param {string} relative
   * @param {(path: string) => T} make
   */
  #make(relative, make) {
    const made = make(join(this.#folder, relative));
    this.#made.add(/** @type {string} */ (relative.split('/')[0]));
    return made;
  }
}

/** @param {number} file @param {Buffer} data */
function writeAll(file, data) {
  for (let at = 0; at < data.length;) at += fs.writeSync(file, data, at);
}

/** @param {Buffer} line @returns {CodeFile[]} */
function parseIndex(line) {
  let index;
  try {
    index = JSON.parse(line.toString());
  } catch {
    throw new BadCode(422, 'the list of files is not JSON');
  }
  if (!Array.isArray(index?.files)) throw new BadCode(422, 'the list of files is not {"files": [...]}');
  if (index.files.length > MAX_CODE_FILES) throw new BadCode(413, `there are more than ${MAX_CODE_FILES} files`);
  return index.files.map((/** @type {any} */ file) => {
    const { path, size, executable = false } = file ?? {};
    if (typeof path === 'string' && Number.isInteger(size) && size >= 0 && typeof executable === 'boolean')
      return { path, size, executable };
    throw new BadCode(422, 'a file of the list is not {"path": text, "size": bytes, "executable"?: boolean}');
  });
}

/** Their sum. @param {CodeFile[]} files */
function checkSizes(files) {
  let bytes = 0;
  for (const { size } of files) {
    bytes += size;
    if (bytes > MAX_CODE_BYTES) throw new BadCode(413, `the files have more than ${MAX_CODE_BYTES} bytes`);
  }
  return bytes;
}

/** The folders that they are in, parents first. @param {CodeFile[]} files @returns {Set<string>} */
function checkPaths(files) {
  const paths = new Set();
  const folders = new Set();
  for (const { path } of files) {
    const shown = JSON.stringify(path.slice(0, 100));
    const segments = path.split('/');
    const fits = path.length <= MAX_CODE_PATH && !path.includes('\0') && path.isWellFormed();
    if (!fits || segments.some((segment) => segment === '' || segment === '.' || segment === '..')) {
      throw new BadCode(422, `${shown} is no path of a file in a bundle`);
    }
    if (paths.has(path)) throw new BadCode(422, `${shown} is in the list twice`);
    paths.add(path);
    for (let end = path.indexOf('/'); end >= 0; end = path.indexOf('/', end + 1)) folders.add(path.slice(0, end));
    if (folders.size > MAX_CODE_FOLDERS) throw new BadCode(413, `there are more than ${MAX_CODE_FOLDERS} folders`);
  }
  for (const folder of folders) {
    if (paths.has(folder)) throw new BadCode(422, `${JSON.stringify(folder.slice(0, 100))} is a file and a folder`);
  }
  return folders;
}
