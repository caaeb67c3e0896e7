"""The function's output as log lines: one JSON object each, tagged with its request, capped in size and rate.

Lines go to stdout's pipe without blocking: were the reader slow, a blocking write would stop the function,
and an unbounded queue would eat its memory. So the pipe is opened a second time with O_NONBLOCK (a flag of
the open file, not of the pipe: whoever else has it is not disturbed), a bounded backlog takes what does not
fit, and beyond that lines are dropped, counted, and the count is logged.
"""

import io
import json
import logging
import os
import re
import stat
import sys
import threading
import time
import warnings

from .invocation import current
from .limits import (
    LOG_BURST_BYTES,
    LOG_DROP_SECONDS,
    LOG_FLUSH_AT_EXIT_SECONDS,
    LOG_RATE_BYTES_PER_SECOND,
    LOG_RETRY_SECONDS,
    MAX_LOG_BACKLOG_BYTES,
    MAX_LOG_LINE_BYTES,
    MAX_PENDING_TEXT,
)

# Terminals obey these too, and JSON does not escape them: DEL, C1, and the two Unicode line ends.
_UNSAFE = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class _Writer:
    """Writes lines to one file descriptor. Its methods may be called from any thread."""

    def __init__(self):
        self.fd = 1
        self._lock = threading.RLock()
        self._backlog = bytearray()
        self._tokens = float(LOG_BURST_BYTES)
        self._refilled_at = time.monotonic()
        self._dropped = 0
        self._resume_at = 0.0
        self._retrying = False

    def open(self):
        try:
            if stat.S_ISFIFO(os.fstat(1).st_mode):
                self.fd = os.open("/proc/self/fd/1", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            self.fd = 1  # no /proc, or not allowed to: blocking writes then

    def line(self, data, last=False):
        """`last`: what the process has to say last goes out whatever was dropped before."""
        with self._lock:
            self._refill()
            # Once lines are dropped it goes on for a while: one note for many lines, not one for each few.
            if not last and (self._tokens < len(data) or (self._dropped > 0 and self._refilled_at < self._resume_at)):
                return self._drop()
            self._tokens -= len(data)
            if self._dropped > 0:
                self._report_dropped()
            if not last and self._backlog and len(self._backlog) + len(data) > MAX_LOG_BACKLOG_BYTES:
                self._write_backlog()
                if self._backlog:
                    return self._drop()
            self._backlog += data
            self._write_backlog()
            if self._backlog:
                self._retry_later()

    def flush(self):
        """Before the process ends: what waits is written, for a bounded time."""
        until = time.monotonic() + LOG_FLUSH_AT_EXIT_SECONDS
        with self._lock:
            if self._dropped > 0:
                self._report_dropped()
            self._write_backlog()
            while self._backlog and time.monotonic() < until:
                time.sleep(0.005)
                self._write_backlog()

    def _refill(self):
        now = time.monotonic()
        self._tokens = min(LOG_BURST_BYTES, self._tokens + (now - self._refilled_at) * LOG_RATE_BYTES_PER_SECOND)
        self._refilled_at = now

    def _drop(self):
        if self._dropped == 0:
            self._resume_at = time.monotonic() + LOG_DROP_SECONDS
        self._dropped += 1
        self._retry_later()

    def _report_dropped(self):
        reason = f"the function logs more than {LOG_RATE_BYTES_PER_SECOND // 1024} KiB/s, or nobody reads it"
        line = encode("warn", "sys", f"{self._dropped} log lines were dropped: {reason}", None)
        # Later, where there is no room for it: the count must not be dropped itself.
        if self._backlog and len(self._backlog) + len(line) > MAX_LOG_BACKLOG_BYTES:
            return self._retry_later()
        self._dropped = 0
        self._backlog += line
        self._write_backlog()

    def _write_backlog(self):
        while self._backlog:
            try:
                written = os.write(self.fd, memoryview(self._backlog)[:65_536])
            except BlockingIOError:
                return
            except InterruptedError:
                continue
            except OSError:
                self._backlog.clear()  # EPIPE and the like: nobody will ever read it
                return
            del self._backlog[:written]

    def _retry_later(self):
        if self._retrying:
            return
        self._retrying = True
        threading.Thread(target=self._retry, name="fn-log", daemon=True).start()

    def _retry(self):
        while True:
            time.sleep(LOG_RETRY_SECONDS)
            with self._lock:
                self._write_backlog()
                self._refill()
                if self._dropped > 0 and not self._backlog and self._refilled_at >= self._resume_at:
                    self._report_dropped()
                if not self._backlog and self._dropped == 0:
                    self._retrying = False
                    return


_writer = _Writer()
open_log = _writer.open
flush_log = _writer.flush


def encode(level, stream, message, request):
    fields = {"t": int(time.time() * 1000), "level": level, "stream": stream, "msg": message}
    if request is not None:
        fields["req"] = request
    text = json.dumps(fields, ensure_ascii=False)
    if _UNSAFE.search(text):
        text = _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    return text.encode("utf-8", "replace") + b"\n"


def _cut(message):
    if len(message) * 4 <= MAX_LOG_LINE_BYTES:
        return message
    data = message.encode("utf-8", "replace")
    if len(data) <= MAX_LOG_LINE_BYTES:
        return message
    note = f" … (cut: {len(data)} bytes)"
    return data[: MAX_LOG_LINE_BYTES - len(note.encode())].decode("utf-8", "ignore") + note


def log(level, stream, message, request=None, last=False):
    """Writes one line; without `request` it carries the id of the request that the running code belongs to."""
    if request is None:
        invocation = current()
        request = None if invocation is None else invocation.id
    _writer.line(encode(level, stream, _cut(message), request), last)


_thread = threading.local()


class LogStream(io.TextIOBase):
    """Stands for sys.stdout and sys.stderr. A print is several writes; what ends with a line end is one message."""

    encoding = "utf-8"
    errors = "replace"
    newlines = None
    line_buffering = True

    def __init__(self, name, fd):
        super().__init__()
        self._name = name
        self._fd = fd
        self.name = "<stdout>" if name == "out" else "<stderr>"
        self.mode = "w"
        self.buffer = _Bytes(self)

    def fileno(self):
        return self._fd

    def writable(self):
        return True

    def isatty(self):
        return False

    def reconfigure(self, **_options):
        """Programs set encodings and buffering of a real stdout; here there is nothing to set."""

    def close(self):
        """As of a program's own: it cannot be closed."""

    def _pending(self):
        invocation = current()
        if invocation is not None:
            return invocation.pending_text
        if not hasattr(_thread, "pending"):
            _thread.pending = {}
        return _thread.pending

    def write(self, text):
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        pending = self._pending()
        whole = pending.pop(self._name, "") + text
        if whole.endswith("\n"):
            self._emit(whole[:-1])
        elif len(whole) > MAX_PENDING_TEXT:
            self._emit(whole)
        elif whole:
            pending[self._name] = whole
        return len(text)

    def flush(self):
        whole = self._pending().pop(self._name, "")
        if whole:
            self._emit(whole)

    def _emit(self, message):
        if message:
            level = getattr(_thread, "level", None) or ("info" if self._name == "out" else "error")
            log(level, self._name, message)


class _Bytes(io.RawIOBase):
    """The `buffer` of a text stream: bytes are text here."""

    def __init__(self, stream):
        super().__init__()
        self._stream = stream

    def writable(self):
        return True

    def fileno(self):
        return self._stream.fileno()

    def write(self, data):
        data = bytes(data)
        self._stream.write(data.decode("utf-8", "replace"))
        return len(data)

    def flush(self):
        self._stream.flush()

    def close(self):
        """As above."""


def flush_pending(invocation):
    """A print without a line end, at the end of its request."""
    while invocation.pending_text:
        name, text = invocation.pending_text.popitem()
        if text:
            log("info" if name == "out" else "error", name, text, invocation.id)


def level_of(levelno):
    if levelno >= logging.ERROR:
        return "error"
    if levelno >= logging.WARNING:
        return "warn"
    return "info" if levelno >= logging.INFO else "debug"


def _leveled(emit):
    def leveled(self, record):
        if not isinstance(getattr(self, "stream", None), LogStream):
            return emit(self, record)
        _thread.level = level_of(record.levelno)
        try:
            return emit(self, record)
        finally:
            _thread.level = None

    return leveled


def _show_warning(message, category, filename, lineno, file=None, line=None):
    text = warnings.formatwarning(message, category, filename, lineno, line)
    if file is not None:
        file.write(text)
    else:
        log("warn", "err", text.rstrip("\n"))


def capture_output():
    """Puts the log in the place of stdout, stderr and warnings; lines of `logging` keep their level."""
    sys.stdout = sys.__stdout__ = LogStream("out", 1)
    sys.stderr = sys.__stderr__ = LogStream("err", 2)
    logging.StreamHandler.emit = _leveled(logging.StreamHandler.emit)
    # Made when logging was imported: its stream is looked up at each use, and a plain message is what it writes.
    warnings.showwarning = _show_warning
