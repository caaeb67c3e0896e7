"""What is sent: a head, and a body in pieces, by content-length or chunked, to the byte."""

import json
import re
import threading
from http import HTTPStatus

from .body import ClientGone
from .limits import START_AFTER_SECONDS, WRITE_HIGH_WATER_BYTES

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_BAD_VALUE = re.compile(rb"[\r\n\x00]")
# The server's own business, and what only the shim may say.
_NOT_SENT = (b"connection", b"transfer-encoding", b"keep-alive", b"upgrade", b"fn-refused")

_PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}


class BadResponse(Exception):
    """What the function gave cannot be sent."""


def as_bytes(text):
    if isinstance(text, str):
        try:
            return text.encode("latin-1")
        except UnicodeEncodeError:
            return text.encode("utf-8")
    return bytes(text)


class Response:
    """On the loop's thread, but for the methods that end with _blocking."""

    def __init__(self, connection, head):
        self._connection = connection
        self._is_head = head.method == b"HEAD"
        self._http11 = head.minor == 1
        self._keep_alive = head.keep_alive
        self._length = None
        self._sent = 0
        self._chunked = False
        self._bodiless = False
        self.started = False
        self.over = False
        # Called once with whether all of it was sent.
        self.on_close = None
        self._pending = 0
        self._room = threading.Condition()

    @property
    def gone(self):
        return self._connection.lost or (self.over and not self._complete)

    _complete = False

    def head_bytes(self, status, headers, length=None):
        """Checks and writes down a head. Raises BadResponse."""
        if type(status) is not int or not 200 <= status <= 999:
            raise BadResponse(f"the status {status!r} is not a number from 200 to 999")
        lines = [b"HTTP/1.1 %d %s\r\n" % (status, _PHRASES.get(status, b""))]
        self._bodiless = status in (204, 304)
        for name, value in self.checked(headers):
            if name == b"content-length":
                if not value.isdigit() or (length is not None and self.wants_body and int(value) != length):
                    raise BadResponse(f"content-length {value[:30]!r} is not the length of the body")
                length = int(value)
                continue
            lines.append(b"%s: %s\r\n" % (name, value))
        if not self._bodiless:
            if length is not None:
                lines.append(b"content-length: %d\r\n" % length)
            elif self._is_head:
                pass  # of a stream nobody knows it
            elif self._http11:
                lines.append(b"transfer-encoding: chunked\r\n")
            else:
                self._keep_alive = False
        self._length = length
        self._chunked = length is None and self._http11 and not self._bodiless and not self._is_head
        lines.append(b"\r\n" if self._keep_alive else b"connection: close\r\n\r\n")
        return b"".join(lines)

    @staticmethod
    def checked(headers):
        """Pairs of bytes, names in lower case, without what is the server's own. Raises BadResponse."""
        pairs = []
        for name, value in headers:
            name = as_bytes(name).lower()
            value = as_bytes(value).strip(b" \t")
            if not _NAME.fullmatch(name) or _BAD_VALUE.search(value):
                raise BadResponse(f"the header {name[:100]!r} has a name or a value that cannot be sent")
            if name not in _NOT_SENT:
                pairs.append((name, value))
        return pairs

    def close_after(self):
        """The connection is not used again."""
        self._keep_alive = False

    def upgraded(self):
        """A head of another kind was sent; the response is over when the connection is."""
        self.started = True

    @property
    def wants_body(self):
        """Whether a body is sent at all: not to HEAD, not with 204 and 304."""
        return not (self._is_head or self._bodiless)

    def start(self, status, headers, length=None):
        """Sends the head. Raises BadResponse, ClientGone."""
        if self.gone:
            raise ClientGone()
        if self.started:
            raise BadResponse("the response was begun already")
        data = self.head_bytes(status, headers, length)
        self.started = True
        self._connection.transport.write(data)

    def start_soon(self, status, headers):
        """Sends the head where no piece of the body has come for a moment: who waits for it is not left without."""
        self._connection.loop.call_later(START_AFTER_SECONDS, self.start_once, status, headers)

    def start_once(self, status, headers):
        """As start(), where that has not happened yet, and the response goes on."""
        if not self.started and not self.over and not self._connection.lost:
            self.start(status, headers)

    def write(self, data):
        """Sends a piece. Raises BadResponse where it is more than content-length says, ClientGone."""
        if self.gone:
            raise ClientGone()
        if self.over:
            raise BadResponse("the response has ended")
        if not data or not self.wants_body:
            return
        self._sent += len(data)
        if self._length is not None and self._sent > self._length:
            raise BadResponse(f"the body is longer than its content-length of {self._length}")
        transport = self._connection.transport
        if self._chunked:
            transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        else:
            transport.write(data)

    async def drain(self):
        if not self._connection.writable.is_set():
            await self._connection.drain()

    def end(self):
        """Raises BadResponse where less was sent than content-length says."""
        if self.over:
            return
        if self.wants_body and self._length is not None and self._sent < self._length:
            raise BadResponse(f"the body is {self._sent} bytes long, and its content-length says {self._length}")
        if self._chunked and not self._connection.lost:
            self._connection.transport.write(b"0\r\n\r\n")
        self._finish(not self._connection.lost)
        self._connection.response_over(self._keep_alive)

    def send(self, status, headers, body):
        """All at once, in one write."""
        if self.gone:
            raise ClientGone()
        data = self.head_bytes(status, headers, len(body))
        self.started = True
        self._sent = len(body)
        self._connection.transport.write(data + body if self.wants_body else data)
        self._finish(True)
        self._connection.response_over(self._keep_alive)

    def send_problem(self, status, code, title, detail, request_id=None):
        body = json.dumps(problem_fields(status, code, title, detail, request_id)).encode()
        self.send(status, [("content-type", "application/problem+json")], body)

    def refuse(self, reason):
        """503 before any user code ran. Only here this header is sent."""
        self.started = True
        close = b"" if self._keep_alive else b"connection: close\r\n"
        self._connection.transport.write(
            b"HTTP/1.1 503 Service Unavailable\r\nfn-refused: %s\r\ncontent-length: 0\r\n%s\r\n" % (reason, close)
        )
        self._finish(True)
        self._connection.response_over(self._keep_alive)

    def abort(self):
        """Truncated must look truncated."""
        if self.over:
            return
        self._finish(False)
        self._connection.abort()

    def lost(self):
        """The connection has gone."""
        with self._room:
            self._room.notify_all()
        self._finish(False)

    def _finish(self, complete):
        if self.over:
            return
        self.over = True
        self._complete = complete
        if self.on_close is not None:
            self.on_close(complete)

    # On a thread.

    def call_blocking(self, method, *args):
        """Runs a method on the loop and waits for it; what it raises is raised here."""
        done = threading.Event()
        failure = []

        def run():
            try:
                method(*args)
            except Exception as error:
                failure.append(error)
            done.set()

        self._connection.loop.call_soon_threadsafe(run)
        done.wait()
        if failure:
            raise failure[0]

    def write_blocking(self, data):
        """Waits while too much is on its way. Raises ClientGone, and late what an earlier write met."""
        with self._room:
            while self._pending > WRITE_HIGH_WATER_BYTES and not self.gone:
                self._room.wait()
        self._connection.writable.wait()
        if self.gone:
            raise ClientGone()
        with self._room:
            self._pending += len(data)
        self._connection.loop.call_soon_threadsafe(self._write_later, data)

    def _write_later(self, data):
        try:
            self.write(data)
        except ClientGone:
            pass  # the thread learns of it at its next write
        except BadResponse as error:
            self._failure = error
            self.abort()
        finally:
            with self._room:
                self._pending -= len(data)
                self._room.notify_all()

    _failure = None

    @property
    def failure(self):
        """What a write of a thread met."""
        return self._failure


def problem_fields(status, code, title, detail, request_id=None):
    """RFC 9457, by the platform's registry of errors."""
    fields = {"type": f"urn:fn:error:{code}", "title": title, "status": status, "detail": detail, "code": code}
    if request_id is not None:
        fields["instance"] = request_id
    return fields


def problem(status, code, title, detail, close=False):
    """A whole response, for where there is no request to answer."""
    body = json.dumps(problem_fields(status, code, title, detail)).encode()
    phrase = _PHRASES.get(status, b"")
    return (
        b"HTTP/1.1 %d %s\r\ncontent-type: application/problem+json\r\ncontent-length: %d\r\n" % (status, phrase, len(body))
        + (b"connection: close\r\n\r\n" if close else b"\r\n")
        + body
    )
