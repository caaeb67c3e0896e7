/**
 * The function's output as log lines: one JSON object per write, tagged with its request, capped in
 * size and rate.
 *
 * Lines go to stdout's pipe without blocking: were the reader slow, a blocking write would stop the
 * function, and an unbounded queue would eat its memory. So the pipe is opened a second time with
 * O_NONBLOCK (a flag of the open file, not of the pipe: whoever else has it is not disturbed), a
 * bounded backlog takes what does not fit, and beyond that lines are dropped, counted, and the count
 * is logged. Where stdout is no pipe, or /proc is closed to us, writes are plain ones.
 */
import { Console } from 'node:console';
import fs from 'node:fs';
import { Writable } from 'node:stream';
import { host } from './host.mjs';
import { storage } from './invocation.mjs';
import {
  LOG_BURST_BYTES,
  LOG_DROP_MS,
  LOG_FLUSH_AT_EXIT_MS,
  LOG_RATE_BYTES_PER_SECOND,
  LOG_RETRY_MS,
  MAX_LOG_BACKLOG_BYTES,
  MAX_LOG_LINE_BYTES,
} from './limits.mjs';

/** @typedef {'debug' | 'info' | 'warn' | 'error'} Level */
/** @typedef {'out' | 'err' | 'sys'} Stream */

/** Terminals obey these too, and JSON does not escape them: DEL, C1, and the two Unicode line ends. */
const UNSAFE = /[\u007f-\u009f\u2028\u2029]/;
const UNSAFE_ALL = /[\u007f-\u009f\u2028\u2029]/g;

let fd = 1;
let tokens = LOG_BURST_BYTES;
let refilledAt = performance.now();
let dropped = 0;
let triedAt = 0;
let resumeAt = 0;
/** @type {Buffer[]} */
let backlog = [];
let backlogBytes = 0;
/** @type {NodeJS.Timeout | null} */
let timer = null;
/** @type {(text: string) => string} */
let rewrite = (text) => text;

/** Opens stdout anew, non-blocking, where it is a pipe. */
export function openLog() {
  try {
    if (fs.fstatSync(1).isFIFO()) fd = fs.openSync('/proc/self/fd/1', fs.constants.O_WRONLY | fs.constants.O_NONBLOCK);
  } catch {
    fd = 1; // no /proc, or not allowed to (--permission): blocking writes then
  }
}

/**
 * What is done to each message before it is cut: positions in it become those of the source.
 * @param {(text: string) => string} change
 */
export function setRewrite(change) {
  rewrite = change;
}

/**
 * Writes one line.
 * @param {Level} level
 * @param {Stream} stream
 * @param {string} message
 * @param {string} [request] id of the request; without it that of the running code
 */
export function log(level, stream, message, request = storage.getStore()?.id) {
  const line = encode(level, stream, cut(stream === 'sys' ? message : rewrite(message)), request);
  refill();
  // Once lines are dropped it goes on for a while: one note for many lines, not one for each few.
  if (tokens < line.length || (dropped > 0 && refilledAt < resumeAt)) return drop();
  tokens -= line.length;
  if (dropped > 0) reportDropped();
  put(line);
}

/**
 * Writes what the process has to say last, whatever was dropped before.
 * @param {Level} level
 * @param {Stream} stream
 * @param {string} message
 * @param {string} [request] id of the request; without it that of the running code
 */
export function logLast(level, stream, message, request = storage.getStore()?.id) {
  const line = encode(level, stream, cut(stream === 'sys' ? message : rewrite(message)), request);
  if (backlogBytes === 0) return put(line);
  backlog.push(line);
  backlogBytes += line.length;
}

/**
 * @param {Level} level
 * @param {Stream} stream
 * @param {string} msg
 * @param {string | undefined} req
 */
function encode(level, stream, msg, req) {
  const text = JSON.stringify({ t: Date.now(), level, stream, msg, req });
  const safe = UNSAFE.test(text) ? text.replace(UNSAFE_ALL, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`) : text;
  return Buffer.from(`${safe}\n`);
}

/** @param {string} message */
function cut(message) {
  // A UTF-16 unit is at most three bytes of UTF-8: most messages need no count.
  if (message.length * 3 <= MAX_LOG_LINE_BYTES) return message;
  const bytes = Buffer.byteLength(message);
  if (bytes <= MAX_LOG_LINE_BYTES) return message;
  const note = ` … (cut: ${bytes} bytes)`;
  const room = MAX_LOG_LINE_BYTES - Buffer.byteLength(note);
  const head = Buffer.from(message.slice(0, room));
  let end = Math.min(room, head.length);
  while (end > 0 && end < head.length && (/** @type {number} */ (head[end]) & 0xc0) === 0x80) end--;
  return head.toString('utf8', 0, end) + note;
}

function refill() {
  const now = performance.now();
  tokens = Math.min(LOG_BURST_BYTES, tokens + ((now - refilledAt) / 1_000) * LOG_RATE_BYTES_PER_SECOND);
  refilledAt = now;
}

function drop() {
  if (dropped++ === 0) resumeAt = performance.now() + LOG_DROP_MS;
  retryLater(LOG_DROP_MS);
}

function reportDropped() {
  const reason = `the function logs more than ${LOG_RATE_BYTES_PER_SECOND / 1024} KiB/s, or nobody reads it`;
  const line = encode('warn', 'sys', `${dropped} log lines were dropped: ${reason}`, undefined);
  // Later, where there is no room for it: the count must not be dropped itself.
  if (backlogBytes + line.length > MAX_LOG_BACKLOG_BYTES) return retryLater(LOG_RETRY_MS);
  dropped = 0;
  put(line);
}

/** @param {Buffer} line */
function put(line) {
  // A function that logs in a loop leaves no turn to the timer: its own writes move the backlog on.
  if (backlogBytes > 0 && performance.now() - triedAt > LOG_RETRY_MS / 10) writeBacklog();
  if (backlogBytes > 0) return queue(line);
  const rest = tryWrite(line);
  if (rest) queue(rest);
}

/** @param {Buffer} line */
function queue(line) {
  // The rest of a line that was begun is always kept: cut in two it would spoil the next one.
  if (backlogBytes > 0 && backlogBytes + line.length > MAX_LOG_BACKLOG_BYTES) return drop();
  backlog.push(line);
  backlogBytes += line.length;
  retryLater(LOG_RETRY_MS);
}

/**
 * Returns what did not fit.
 * @param {Buffer} data
 */
function tryWrite(data) {
  let offset = 0;
  while (offset < data.length) {
    try {
      offset += fs.writeSync(fd, data, offset);
    } catch (error) {
      const code = error instanceof Error && 'code' in error ? error.code : '';
      if (code === 'EAGAIN') return offset === 0 ? data : data.subarray(offset);
      if (code !== 'EINTR') return null; // EPIPE and the like: nobody will ever read it
    }
  }
  return null;
}

function writeBacklog() {
  triedAt = performance.now();
  let written = 0;
  for (const data of backlog) {
    const rest = tryWrite(data);
    if (rest) {
      backlog[written] = rest;
      break;
    }
    written++;
  }
  backlog = backlog.slice(written);
  backlogBytes = backlog.reduce((sum, data) => sum + data.length, 0);
}

/** @param {number} delayMs */
function retryLater(delayMs) {
  timer ??= setTimeout(() => {
    timer = null;
    writeBacklog();
    refill();
    if (backlogBytes > 0) retryLater(LOG_RETRY_MS);
    else if (dropped > 0 && refilledAt >= resumeAt) reportDropped();
    else if (dropped > 0) retryLater(LOG_DROP_MS);
  }, delayMs).unref();
}

/** Before the process ends: what waits is written, for a bounded time. */
export function flushLog() {
  if (dropped > 0) reportDropped();
  const until = performance.now() + LOG_FLUSH_AT_EXIT_MS;
  const pause = new Int32Array(new SharedArrayBuffer(4));
  for (writeBacklog(); backlogBytes > 0 && performance.now() < until; writeBacklog()) Atomics.wait(pause, 0, 0, 5);
}

/** @type {Level | null} What console.debug and console.warn say about the write they cause. */
let consoleLevel = null;

/** Stands for process.stdout and process.stderr: every write is a log line. */
class LogStream extends Writable {
  /**
   * @param {'out' | 'err'} name
   * @param {number} number of the file that a program would expect
   */
  constructor(name, number) {
    super({ decodeStrings: false });
    this.name = name;
    this.fd = number;
    this.isTTY = false;
  }

  /**
   * @param {Buffer | string} chunk
   * @param {BufferEncoding} encoding
   * @param {(error?: Error | null) => void} callback
   * @override
   */
  _write(chunk, encoding, callback) {
    const text = typeof chunk === 'string' ? chunk : Buffer.from(chunk).toString();
    const message = text.endsWith('\n') ? text.slice(0, -1) : text;
    if (message !== '') log(consoleLevel ?? (this.name === 'out' ? 'info' : 'error'), this.name, message);
    callback();
  }

  /**
   * As of Node's own: they cannot be closed.
   * @param {any[]} args
   * @override
   */
  end(...args) {
    const [chunk] = args;
    if (typeof chunk === 'string' || chunk instanceof Uint8Array) this.write(chunk);
    const callback = args.at(-1);
    if (typeof callback === 'function') process.nextTick(callback);
    return this;
  }

  /** @override */
  destroy() {
    return this;
  }
}

/** Puts the log in the place of stdout and stderr. Before any use of console, which keeps the stream that it finds first. */
export function captureOutput() {
  for (const [name, value] of /** @type {const} */ ([
    ['stdout', new LogStream('out', 1)],
    ['stderr', new LogStream('err', 2)],
  ])) {
    Object.defineProperty(process, name, { configurable: true, enumerable: true, get: () => value });
  }
  if (host.replaceConsole) globalThis.console = /** @type {any} */ (new Console({ stdout: process.stdout, stderr: process.stderr }));
  for (const level of /** @type {const} */ (['debug', 'warn'])) {
    const original = console[level];
    /** @param {unknown[]} args */
    const leveled = (...args) => {
      consoleLevel = level;
      try {
        original(...args);
      } finally {
        consoleLevel = null;
      }
    };
    console[level] = Object.defineProperty(leveled, 'name', { value: level });
  }
}
