"""Every limit of the shim, with its unit and why it is what it is."""

# Longest body of POST init, bytes: the environment has at most 128 KiB, the rest is small.
MAX_INIT_BODY_BYTES = 4 * 1024 * 1024
# Longest body of POST drain, bytes.
MAX_DRAIN_BODY_BYTES = 4_096
# Longest line that lists the files of POST code, bytes (MAX_CODE_INDEX_BYTES of the contract), and how many it may list.
MAX_CODE_INDEX_BYTES = 4 * 1024 * 1024
MAX_CODE_FILES = 20_000
# Longest path of such a file, characters; how many folders they may be in: a path of 512 characters could name 256.
MAX_CODE_PATH = 512
MAX_CODE_FOLDERS = 20_000
# All files together, bytes.
MAX_CODE_BYTES = 512 * 1024 * 1024
# After SIGTERM over TCP: nobody has used the instance for so long, so no gateway holds it any more, seconds.
IDLE_AFTER_SIGTERM_SECONDS = 5
# After SIGTERM over TCP: whoever still sends requests was not told by the platform, and will not be, seconds.
REFUSE_AFTER_SIGTERM_SECONDS = 15
# How long a module, and the startup of an ASGI app, may take, seconds.
LOAD_TIMEOUT_SECONDS = 10
# How long the shutdown of an ASGI app may hold up the end of the process, seconds.
SHUTDOWN_TIMEOUT_SECONDS = 5
# Longest body that the Lambda form buffers, bytes: AWS's own limit of a synchronous payload.
MAX_LAMBDA_BODY_BYTES = 6 * 1024 * 1024
# Longest body of an event or a batch of them, bytes. The platform's batches have 10 MiB (MAX_BATCH_BYTES of the contract)
# and 2 MiB of data; as JSON, where a control character takes six bytes, these may be somewhat more.
MAX_EVENT_BODY_BYTES = 16 * 1024 * 1024
# Longest delay that a message may be retried with, seconds (BatchAnswer of the contract).
MAX_RETRY_DELAY_SECONDS = 86_400
# Head of a request, bytes: the gateway takes 16 KiB from clients and adds its own.
MAX_HEADER_BYTES = 64 * 1024
# The line with the size of a chunk, and all trailers together, bytes.
MAX_CHUNK_LINE_BYTES = 256
MAX_TRAILER_BYTES = 16 * 1024
# A request body that waits for its reader, bytes; then the socket is paused.
BODY_HIGH_WATER_BYTES = 64 * 1024
# What a thread may write ahead of the socket, bytes.
WRITE_HIGH_WATER_BYTES = 64 * 1024
# The head of a streamed response waits so long for the first piece of the body, seconds.
START_AFTER_SECONDS = 0.01
# Threads for handlers that are not async: an instance has at most 256 processes and threads.
MAX_THREADS = 200

# Longest message of a WebSocket, bytes, and what waits for a slow reader of them before the socket is paused.
MAX_WEBSOCKET_MESSAGE_BYTES = 16 * 1024 * 1024
WEBSOCKET_HIGH_WATER_BYTES = 256 * 1024
# How long the other side has to answer a close frame, seconds.
WEBSOCKET_CLOSE_SECONDS = 5
# How long what it still sends behind the close is read and dropped, seconds.
WEBSOCKET_LINGER_SECONDS = 1

# Longest message of a log line, bytes (MAX_LOG_LINE_BYTES of the contract).
MAX_LOG_LINE_BYTES = 16_384
# Text that a print without a line end may hold back, characters.
MAX_PENDING_TEXT = 16_384
# What an instance may log for long, bytes per second, and at once.
LOG_RATE_BYTES_PER_SECOND = 1024 * 1024
LOG_BURST_BYTES = 4 * 1024 * 1024
# Lines that wait because nobody reads the pipe, bytes; what is more is dropped and counted.
MAX_LOG_BACKLOG_BYTES = 4 * 1024 * 1024
# Once lines are dropped, so long all are, seconds; then a note says how many.
LOG_DROP_SECONDS = 0.2
# How often a full pipe is tried again, seconds.
LOG_RETRY_SECONDS = 0.01
# How long the last lines may hold up the end of the process, seconds.
LOG_FLUSH_AT_EXIT_SECONDS = 0.2

# Bounds of what is told about an error (FunctionError of the contract), characters.
MAX_ERROR_NAME = 200
MAX_ERROR_MESSAGE = 8_192
MAX_ERROR_AT = 1_024
MAX_ERROR_STACK = 16_384

# A generic instance that was left alone for so long begins to import what functions use, seconds.
WARM_UP_AFTER_SECONDS = 0.05
