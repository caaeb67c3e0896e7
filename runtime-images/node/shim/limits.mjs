/** Every limit of the shim, with its unit and why it is what it is. */

/** Longest body of POST init, bytes: the environment has at most 128 KiB, the rest is small. */
export const MAX_INIT_BODY_BYTES = 4 * 1024 * 1024;
/** Longest body of POST drain, bytes. */
export const MAX_DRAIN_BODY_BYTES = 4_096;
/** Longest line that lists the files of POST code, bytes (MAX_CODE_INDEX_BYTES of the contract), and how many it may list. */
export const MAX_CODE_INDEX_BYTES = 4 * 1024 * 1024;
export const MAX_CODE_FILES = 20_000;
/** Longest path of such a file, characters; how many folders they may be in: a path of 512 characters could name 256. */
export const MAX_CODE_PATH = 512;
export const MAX_CODE_FOLDERS = 20_000;
/** All files together, bytes. */
export const MAX_CODE_BYTES = 512 * 1024 * 1024;
/** A code cache that is handed over: files and bytes (MAX_CODE_CACHE_FILES and _BYTES of the contract, the list of them included there). */
export const MAX_CODE_CACHE_FILES = 64;
export const MAX_CODE_CACHE_BYTES = 16 * 1024 * 1024 - 64 * 1024;
/** After SIGTERM over TCP: nobody has used the instance for so long, so no gateway holds it any more, ms. */
export const IDLE_AFTER_SIGTERM_MS = 5_000;
/** After SIGTERM over TCP: whoever still sends requests was not told by the platform, and will not be, ms. */
export const REFUSE_AFTER_SIGTERM_MS = 15_000;
/** How long a module may take to load, ms. A top-level await that never settles ends here, with words. */
export const LOAD_TIMEOUT_MS = 10_000;
/** Longest body that the Lambda form buffers, bytes: AWS's own limit of a synchronous payload. */
export const MAX_LAMBDA_BODY_BYTES = 6 * 1024 * 1024;
/**
 * Longest body of an event or a batch of them, bytes. The platform's batches have 10 MiB (MAX_BATCH_BYTES of the contract) and
 * 2 MiB of data; as JSON, where a control character takes six bytes, these may be somewhat more.
 */
export const MAX_EVENT_BODY_BYTES = 16 * 1024 * 1024;
/** Longest delay that a message may be retried with, seconds (BatchAnswer of the contract). */
export const MAX_RETRY_DELAY_SECONDS = 86_400;
/** Headers of a request, bytes: the gateway takes 16 KiB from clients and adds its own. */
export const MAX_HEADER_BYTES = 64 * 1024;
/** Chunks of a request body that wait for a Web-style reader, bytes; then the socket is paused. */
export const BODY_HIGH_WATER_BYTES = 64 * 1024;

/** Longest message of a log line, bytes (MAX_LOG_LINE_BYTES of the contract). */
export const MAX_LOG_LINE_BYTES = 16_384;
/** What an instance may log for long, bytes per second, and at once. */
export const LOG_RATE_BYTES_PER_SECOND = 1024 * 1024;
export const LOG_BURST_BYTES = 4 * 1024 * 1024;
/** Lines that wait because nobody reads the pipe, bytes; what is more is dropped and counted. */
export const MAX_LOG_BACKLOG_BYTES = 4 * 1024 * 1024;
/** Once lines are dropped, so long all are, ms; then a note says how many. */
export const LOG_DROP_MS = 200;
/** How often a full pipe is tried again, ms. */
export const LOG_RETRY_MS = 10;
/** How long the last lines may hold up the end of the process, ms. */
export const LOG_FLUSH_AT_EXIT_MS = 200;

/** A source map larger than this is not read, bytes. */
export const MAX_SOURCE_MAP_BYTES = 64 * 1024 * 1024;
/** Bounds of what is told about an error (FunctionError of the contract), characters. */
export const MAX_ERROR_NAME = 200;
export const MAX_ERROR_MESSAGE = 8_192;
export const MAX_ERROR_AT = 1_024;
export const MAX_ERROR_STACK = 16_384;

/** A generic instance that was left alone for so long warms up, ms. */
export const WARM_UP_AFTER_MS = 50;
/** How often it then speaks to itself, and how many requests of each kind it sends each time: more make the next one little faster. */
export const PRACTICE_CONVERSATIONS = 2;
export const PRACTICE_REQUESTS = 2;
/** The same host is asked for again and again: so many are remembered. */
export const MAX_CACHED_HOSTS = 64;

/** Longest message of a WebSocket's client, bytes, where the function asks for no other: put together, it is the function's memory. */
export const WEBSOCKET_MESSAGE_BYTES = 16 * 1024 * 1024;
/** The most that it may ask for, bytes. */
export const MAX_WEBSOCKET_MESSAGE_BYTES = 256 * 1024 * 1024;
/** Until the peer has answered a close frame, ms; then the connection is cut. */
export const WEBSOCKET_CLOSE_TIMEOUT_MS = 5_000;
/** Until a peer has closed a connection that we have ended, ms. */
export const WEBSOCKET_LINGER_MS = 1_000;
/** With so many bytes unsent, pings are not answered: who does not read would make them pile up. */
export const WEBSOCKET_MAX_PONGS_BYTES = 64 * 1024;
