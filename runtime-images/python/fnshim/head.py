"""Reading the head of a request, strictly: what could be understood in two ways is refused."""

import re

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_TARGET = re.compile(rb"[\x21-\x7e\x80-\xff]+")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_LENGTH = re.compile(rb"[0-9]{1,18}")


class BadRequest(Exception):
    """`status`: what it is answered with; the connection is closed after it."""

    def __init__(self, status, detail):
        super().__init__(detail)
        self.status = status


class Head:
    """Request line and headers. Names are in lower case; all of it is bytes."""

    __slots__ = ("method", "target", "path", "query", "minor", "headers", "length", "chunked", "keep_alive", "values")

    def get(self, name):
        """The first value of a header, as text, or None."""
        value = self.values.get(name)
        return None if value is None else value.decode("latin-1")


def parse_head(data):
    """`data`: all up to the empty line, without it. Raises BadRequest."""
    lines = data.split(b"\r\n")
    parts = lines[0].split(b" ")
    if len(parts) != 3 or not _TOKEN.fullmatch(parts[0]) or not _TARGET.fullmatch(parts[1]):
        raise BadRequest(400, "the request line is not METHOD TARGET VERSION")
    if parts[2] not in (b"HTTP/1.1", b"HTTP/1.0"):
        raise BadRequest(505 if parts[2].startswith(b"HTTP/") else 400, "the version is not HTTP/1.1")
    head = Head()
    head.method, head.target = parts[0], parts[1]
    if not head.target.startswith(b"/") and head.target != b"*":
        raise BadRequest(400, "the target is not a path")
    head.path, _, head.query = head.target.partition(b"?")
    head.minor = 1 if parts[2] == b"HTTP/1.1" else 0
    head.headers = []
    head.values = values = {}
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        # A name that is no token is also a folded line, and one with a space before its colon.
        if not colon or not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
            raise BadRequest(400, "a header is not NAME: VALUE")
        name = name.lower()
        value = value.strip(b" \t")
        head.headers.append((name, value))
        if name in values:
            if name in (b"content-length", b"host", b"transfer-encoding"):
                raise BadRequest(400, f"{name.decode()} is there twice")
        else:
            values[name] = value
    _framing(head)
    return head


def _framing(head):
    length = head.values.get(b"content-length")
    encoding = head.values.get(b"transfer-encoding")
    head.length, head.chunked = 0, False
    if encoding is not None:
        if length is not None or head.minor == 0:
            raise BadRequest(400, "transfer-encoding with content-length, or in HTTP/1.0")
        if encoding.lower() != b"chunked":
            raise BadRequest(501, "only the transfer encoding chunked is known")
        head.chunked = True
    elif length is not None:
        if not _LENGTH.fullmatch(length):
            raise BadRequest(400, "content-length is not a number")
        head.length = int(length)
    connection = head.values.get(b"connection", b"").lower()
    options = [option.strip() for option in connection.split(b",")]
    head.keep_alive = b"close" not in options and (head.minor == 1 or b"keep-alive" in options)


class ChunkedReader:
    """Takes a chunked body apart. feed() returns the pieces of it, and what comes after its end."""

    def __init__(self, max_line, max_trailers):
        self._max_line = max_line
        self._max_trailers = max_trailers
        self._buffer = bytearray()
        self._left = 0
        self._state = "size"
        self.done = False

    def feed(self, data):
        """(pieces, rest): `rest` is None until the body has ended. Raises BadRequest."""
        self._buffer += data
        pieces = []
        while True:
            if self._state == "data":
                piece = bytes(self._buffer[: self._left])
                del self._buffer[: len(piece)]
                self._left -= len(piece)
                if piece:
                    pieces.append(piece)
                if self._left > 0:
                    return pieces, None
                self._state = "end of data"
            if self._state == "end of data":
                if len(self._buffer) < 2:
                    return pieces, None
                if self._buffer[:2] != b"\r\n":
                    raise BadRequest(400, "a chunk is longer than it says")
                del self._buffer[:2]
                self._state = "size"
            if self._state == "size":
                line = self._line(self._max_line)
                if line is None:
                    return pieces, None
                size = line.partition(b";")[0].strip(b" \t")
                if not re.fullmatch(rb"[0-9A-Fa-f]{1,15}", size):
                    raise BadRequest(400, "the size of a chunk is not a number")
                self._left = int(size, 16)
                self._state = "data" if self._left > 0 else "trailers"
                continue
            while True:
                line = self._line(self._max_trailers)
                if line is None:
                    return pieces, None
                self._max_trailers -= len(line) + 2
                if self._max_trailers < 0:
                    raise BadRequest(431, "the trailers are too long")
                if line == b"":
                    self.done = True
                    return pieces, bytes(self._buffer)

    def _line(self, limit):
        end = self._buffer.find(b"\r\n")
        if end < 0:
            if len(self._buffer) > limit:
                raise BadRequest(400, "a line of the body is too long")
            return None
        if end > limit:
            raise BadRequest(400, "a line of the body is too long")
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line
