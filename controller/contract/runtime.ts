/**
 * The runtime protocol between the platform and an instance's shim: HTTP/1.1 on a unix socket or a
 * TCP port. See runtime-images/PROTOCOL.md. The shims import nothing; they are held to this file by
 * test/conformance/runtime.
 */
import { z } from 'zod';
import { FunctionError } from './errors.ts';
import { HandlerForm } from './function.ts';
import { InstanceId, RevisionKey } from './names.ts';

/** Paths of the shim itself. Every other path is the user's; the gateway never forwards these. */
export const RUNTIME_PATHS = {
  health: '/.fn/health',
  code: '/.fn/code',
  codeCache: '/.fn/code-cache',
  init: '/.fn/init',
  drain: '/.fn/drain',
} as const;
export const RESERVED_PREFIX = '/.fn/';

/** Headers between gateway and shim. Whatever begins with `fn-` is stripped at the public border, both ways. */
export const HEADERS = {
  /** Id of the request, both ways, also to the client. */
  requestId: 'x-request-id',
  /** When the gateway gives up: milliseconds since 1970. */
  deadline: 'fn-deadline',
  /** The instance that is meant; another answers `fn-refused: not-me`. Over TCP every request must name it, those below /.fn/ too: addresses are used again. */
  instance: 'fn-instance',
  /** Set by the shim on a 503 given before user code ran. */
  refused: 'fn-refused',
  traceparent: 'traceparent',
  /** What the request is where it is an event: `invocation`, `queue`, `schedule` or `event`. Set by the platform alone. */
  event: 'fn-event',
  /** On POST code: the nonce that the instance was created with. */
  nonce: 'fn-nonce',
} as const;

/** Types of content of events, one by one in binary mode or as a batch (CloudEvents 1.0, JSON format). */
export const CLOUDEVENTS_BATCH_TYPE = 'application/cloudevents-batch+json';

/**
 * What an answer to `fn-event: queue` may say, as JSON with 200: those of the batch that failed, by their `id`.
 * Others, and all of an empty body or other JSON, have succeeded. The names are Lambda's.
 */
export const BatchAnswer = z.object({
  batchItemFailures: z.array(z.object({ itemIdentifier: z.string(), delaySeconds: z.number().min(0).max(86_400).optional() })).max(1_000),
});
export type BatchAnswer = z.infer<typeof BatchAnswer>;

export const Refusal = z.enum(['full', 'draining', 'not-me']);
export type Refusal = z.infer<typeof Refusal>;

/** Where an instance listens. */
export const Address = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('unix'), path: z.string() }),
  /** `instance`: who is meant, named in `fn-instance` by whoever dials. */
  z.object({ kind: z.literal('tcp'), host: z.string(), port: z.number().int(), instance: InstanceId }),
]);
export type Address = z.infer<typeof Address>;

/** Answer of GET health. */
export const Health = z.object({
  status: z.enum(['generic', 'ready', 'draining']),
  instance: InstanceId,
  revision: RevisionKey.nullable(),
  /** Requests being worked on. */
  inFlight: z.number().int().min(0),
  /** Promises given to waitUntil that have not settled. */
  waitUntil: z.number().int().min(0),
});
export type Health = z.infer<typeof Health>;

/**
 * POST code, where the platform shares no file system with the instance: before init, once, with the nonce in `fn-nonce`. The body is
 * one line of JSON (CodeIndex), LF, and then the bytes of its files, one after the other. 200 CodeReceived; 403: wrong nonce, not generic, or it
 * has code already; 413 over a limit; 422 anything else that is wrong with it: then there is nothing of it.
 */
export const CodeIndex = z.object({
  files: z
    .array(z.object({ path: z.string().max(512), size: z.number().int().min(0), executable: z.boolean().default(false) }))
    .max(20_000),
});
export type CodeIndex = z.infer<typeof CodeIndex>;
/** Longest line of a CodeIndex, bytes. */
export const MAX_CODE_INDEX_BYTES = 4 * 1024 * 1024;

export const CodeReceived = z.object({ files: z.number().int(), bytes: z.number().int() });
export type CodeReceived = z.infer<typeof CodeReceived>;

/**
 * Answer of GET code-cache, with the nonce in `fn-nonce`, once: as the body of POST code, a line of JSON (CodeIndex) and the bytes of the files.
 * 403: wrong nonce; 404: there is none. So many files and bytes at most.
 */
export const MAX_CODE_CACHE_FILES = 64;
export const MAX_CODE_CACHE_BYTES = 16 * 1024 * 1024;

/** Body of POST init. */
export const InitRequest = z.object({
  /** The nonce that the instance was created with (FN_NONCE); anything else is refused with 403. */
  nonce: z.string(),
  revision: RevisionKey,
  namespace: z.string(),
  name: z.string(),
  number: z.number().int(),
  /** Folder of the bundle as the instance sees it. */
  code: z.string(),
  /** File in that folder to load. */
  entry: z.string(),
  env: z.record(z.string(), z.string()),
  /** Slots, or null for the default of the form that is found. */
  slots: z.number().int().nullable(),
  timeoutMs: z.number(),
  memoryMib: z.number(),
  /** The class that the instance was booted for; below it, the heap is asked to grow slowly. */
  memoryClassMib: z.number(),
  /** The code is worth a code cache: one that lies beside it, in `.fn/code-cache`, is used, and one is made where there is none that fits. */
  codeCache: z.boolean().optional(),
});
export type InitRequest = z.infer<typeof InitRequest>;

/** 200 of POST init. */
export const InitResponse = z.object({
  form: HandlerForm,
  slots: z.number().int().min(1).max(1_000),
  /** Milliseconds spent loading the user's module. */
  loadMs: z.number(),
  /** `hit`: the one beside the code was used. `made`: there is a new one, to be fetched. */
  codeCache: z.enum(['hit', 'made']).optional(),
});
export type InitResponse = z.infer<typeof InitResponse>;

/** 422 of POST init: the function's own error. 403 carries no body that matters. */
export const InitFailure = z.object({ error: FunctionError });
export type InitFailure = z.infer<typeof InitFailure>;

/** Body of POST drain: new requests are refused, those in flight go on. */
export const DrainRequest = z.object({ deadlineMs: z.number() });
export type DrainRequest = z.infer<typeof DrainRequest>;

/** Environment that a driver starts a shim with. */
export interface BootEnv {
  FN_INSTANCE: string;
  /** The nonce; or `sha256:` and its SHA-256 in hex, where others can read what an instance is started with. */
  FN_NONCE: string;
  /** Path of the unix socket to make, mode 0666; or FN_PORT. */
  FN_SOCKET?: string;
  FN_PORT?: string;
  /** Folder that POST code writes to: there only where code comes over the network. */
  FN_CODE?: string;
}

/** What a shim writes to stdout per log line of the function (JSON, one line per write). */
export const RuntimeLogLine = z.object({
  /** Milliseconds since 1970. */
  t: z.number(),
  level: z.enum(['debug', 'info', 'warn', 'error']),
  /** `out` for stdout and console.log, `err` for stderr and console.error, `sys` for the shim's own words. */
  stream: z.enum(['out', 'err', 'sys']),
  msg: z.string(),
  /** Request that wrote it, where known. */
  req: z.string().optional(),
});
export type RuntimeLogLine = z.infer<typeof RuntimeLogLine>;

/** Longest message of a log line, bytes; longer ones are cut and say so. */
export const MAX_LOG_LINE_BYTES = 16_384;
