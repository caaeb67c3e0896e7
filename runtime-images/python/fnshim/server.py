"""An HTTP/1.1 server on asyncio: keep-alive, bodies that stream both ways with back-pressure, upgrades.

The other end is the gateway, which has limits of its own in time; here are those in bytes.
"""

import asyncio
import re
import threading

from .body import Body, ClientGone
from .head import BadRequest, ChunkedReader, parse_head
from .limits import MAX_CHUNK_LINE_BYTES, MAX_HEADER_BYTES, MAX_TRAILER_BYTES
from .response import Response, problem


_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252})|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")


class Connection(asyncio.Protocol):
    """One connection. `handle(request)` is called for each request, one at a time."""

    def __init__(self, loop, handle):
        self.loop = loop
        self._handle = handle
        self._buffer = bytearray()
        self._request = None
        self._chunked = None
        self._left = 0
        self._closing = False
        self._upgraded = None
        self._reading_paused = False
        self.transport = None
        # Set while the transport takes more; threads wait for it.
        self.writable = threading.Event()
        self.writable.set()
        self._drain_waiters = []
        self.lost = False

    def connection_made(self, transport):
        self.transport = transport

    def connection_lost(self, _error):
        self.lost = True
        self.resume_writing()
        request, self._request = self._request, None
        if request is not None:
            request.body.fail()
            request.response.lost()
        if self._upgraded is not None:
            self._upgraded.connection_lost()

    def eof_received(self):
        return False  # closes: a client that will not read has gone

    def data_received(self, data):
        if self._upgraded is not None:
            return self._upgraded.data_received(data)
        if self._closing:
            return
        self._buffer += data
        self._advance()

    def _advance(self):
        try:
            while self._buffer or (self._request is not None and not self._request.body.complete):
                if self._request is None:
                    if not self._begin():
                        return
                elif self._request.body.complete:
                    # A request that came before its turn waits; one that sends ever more is held up.
                    if len(self._buffer) > MAX_HEADER_BYTES and not self._reading_paused:
                        self.pause_reading()
                    return
                elif not self._feed_body():
                    return
        except BadRequest as error:
            self._refuse(error)

    def _begin(self):
        while self._buffer[:2] == b"\r\n":
            del self._buffer[:2]  # RFC 9112: at least one empty line before a request is to be ignored
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0 or end > MAX_HEADER_BYTES:
            if len(self._buffer) > MAX_HEADER_BYTES:
                raise BadRequest(431, "the headers are too long")
            if self._buffer.find(b"\n") >= 0 and b"\r\n" not in self._buffer[: self._buffer.find(b"\n") + 1]:
                raise BadRequest(400, "a line ends with LF alone")
            return False
        head = parse_head(bytes(self._buffer[:end]))
        del self._buffer[: end + 4]
        request = Request(self, head)
        self._request = request
        self._left = head.length
        self._chunked = ChunkedReader(MAX_CHUNK_LINE_BYTES, MAX_TRAILER_BYTES) if head.chunked else None
        if self._chunked is None and self._left == 0:
            request.body.end()
        else:
            self._feed_body()
        self._handle(request)
        return self._upgraded is None

    def _feed_body(self):
        """Returns whether there may be more to do with what is in the buffer."""
        body = self._request.body
        if not self._buffer:
            return False
        if self._chunked is not None:
            pieces, rest = self._chunked.feed(bytes(self._buffer))
            self._buffer.clear()
            for piece in pieces:
                body.feed(piece)
            if rest is None:
                return False
            self._buffer += rest
        else:
            piece = bytes(self._buffer[: self._left])
            del self._buffer[: len(piece)]
            self._left -= len(piece)
            body.feed(piece)
            if self._left > 0:
                return False
        body.end()
        if self._request is not None and self._request.response.over:
            self._next()
        return True

    def _refuse(self, error):
        self._closing = True
        request, self._request = self._request, None
        if request is not None:
            # In the middle of a body: its reader is told, and no answer would be understood.
            request.body.fail()
            request.response.lost()
            return self.transport.abort()
        self.transport.write(problem(error.status, "bad-request", "Bad request", str(error), close=True))
        self.transport.close()

    def response_over(self, keep_alive):
        """All of the response was given to the transport."""
        request = self._request
        if request is None:
            return
        if not keep_alive or self._closing:
            self._closing = True
            self._request = None
            return self.transport.close()
        if request.body.complete:
            self._next()
        else:
            request.body.discard()

    def _next(self):
        self._request = None
        if self._reading_paused:
            self.resume_reading()
        if self._buffer:
            self.loop.call_soon(self._advance)

    def upgrade(self, receiver):
        """From here on bytes belong to `receiver`; returns those that came already."""
        self._upgraded = receiver
        self._request = None
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    def finish_writing(self):
        """Says that no more comes once all is written; reading goes on."""
        if not self.lost:
            self.resume_reading()
            self.transport.write_eof()

    def close(self):
        """Ends the connection once all is written."""
        if not self.lost:
            self.transport.close()

    def abort(self):
        """Ends the connection so that what was sent looks truncated."""
        self._closing = True
        if not self.lost:
            self.transport.abort()

    def pause_reading(self):
        if not self._reading_paused and not self.lost:
            self._reading_paused = True
            self.transport.pause_reading()

    def resume_reading(self):
        if self._reading_paused and not self.lost:
            self._reading_paused = False
            self.transport.resume_reading()

    def pause_writing(self):
        self.writable.clear()

    def resume_writing(self):
        self.writable.set()
        waiters, self._drain_waiters = self._drain_waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def drain(self):
        """Until the transport takes more. Raises ClientGone."""
        while not self.writable.is_set():
            waiter = self.loop.create_future()
            self._drain_waiters.append(waiter)
            await waiter
        if self.lost:
            raise ClientGone()


class Request:
    """A request and the response to it."""

    __slots__ = ("connection", "head", "body", "response", "invocation")

    def __init__(self, connection, head):
        self.connection = connection
        self.head = head
        self.body = Body(connection.loop, connection.pause_reading, connection.resume_reading)
        self.response = Response(connection, head)
        self.invocation = None

    @property
    def path_text(self):
        return self.head.path.decode("latin-1")

    @property
    def host(self):
        host = self.head.get(b"host") or ""
        return host if _HOST.fullmatch(host) else "localhost"

    @property
    def server(self):
        """Host without its port, and the port."""
        host, colon, port = self.host.rpartition(":")
        # The last colon of [::1] is none before a port.
        if colon and port.isdigit():
            return host, int(port)
        return self.host, 443 if self.scheme == "https" else 80

    @property
    def scheme(self):
        return "https" if self.head.get(b"x-forwarded-proto") == "https" else "http"

    @property
    def client(self):
        """Address of the client: the first that was forwarded for."""
        return (self.head.get(b"x-forwarded-for") or "127.0.0.1").split(",")[0].strip()

    @property
    def prefix(self):
        """What the gateway took off the beginning of the path."""
        return (self.head.get(b"x-forwarded-prefix") or "").rstrip("/")

    def user_headers(self):
        """Those that are not the platform's own: pairs of bytes, names in lower case.

        `fn-event` is shown: by it a handler of plain HTTP can tell an event from what a client sends.
        """
        return [pair for pair in self.head.headers if not pair[0].startswith(b"fn-") or pair[0] == b"fn-event"]
