"""The `wsgi` form (PEP 3333): each request on a thread, at most as many as there are slots."""

import sys
from urllib.parse import unquote_to_bytes

from .response import BadResponse


class Input:
    """wsgi.input: the body, read as it comes."""

    def __init__(self, body):
        self._body = body
        self._rest = b""
        self._ended = False

    def _more(self):
        if self._ended:
            return False
        piece = self._body.read_blocking()
        self._ended = not piece
        self._rest += piece
        return not self._ended

    def read(self, size=-1):
        if size is None or size < 0:
            pieces = [self._rest]
            self._rest = b""
            while not self._ended:
                piece = self._body.read_blocking()
                self._ended = not piece
                pieces.append(piece)
            return b"".join(pieces)
        while len(self._rest) < size and self._more():
            pass
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken

    def readline(self, size=-1):
        while (end := self._rest.find(b"\n")) < 0:
            if size is not None and 0 <= size <= len(self._rest) or not self._more():
                break
        length = len(self._rest) if end < 0 else end + 1
        if size is not None and size >= 0:
            length = min(length, size)
        taken, self._rest = self._rest[:length], self._rest[length:]
        return taken

    def readlines(self, hint=-1):
        lines = []
        total = 0
        for line in self:
            lines.append(line)
            total += len(line)
            if hint is not None and 0 < hint <= total:
                break
        return lines

    def __iter__(self):
        while line := self.readline():
            yield line


def make_environ(request, invocation):
    head = request.head
    host, port = request.server
    environ = {
        "REQUEST_METHOD": head.method.decode("latin-1"),
        "SCRIPT_NAME": unquote_to_bytes(request.prefix).decode("latin-1"),
        "PATH_INFO": unquote_to_bytes(head.path).decode("latin-1"),
        "QUERY_STRING": head.query.decode("latin-1"),
        "RAW_URI": head.target.decode("latin-1"),
        "REQUEST_URI": head.target.decode("latin-1"),
        "SERVER_NAME": host,
        "SERVER_PORT": str(port),
        "SERVER_PROTOCOL": f"HTTP/1.{head.minor}",
        "REMOTE_ADDR": request.client,
        "REMOTE_HOST": request.client,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": request.scheme,
        "wsgi.input": Input(request.body),
        # The end of the body is known, whatever content-length says: chunked ones can be read to it.
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "fn.request_id": invocation.id,
        "fn.deadline": invocation.deadline,
    }
    for name, value in request.user_headers():
        text = value.decode("latin-1")
        # A header with _ would be taken for one with -: CGI knows no difference, proxies do.
        if b"_" in name:
            continue
        key = name.decode("latin-1").upper().replace("-", "_")
        if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            key = f"HTTP_{key}"
        environ[key] = f"{environ[key]}{'; ' if key == 'HTTP_COOKIE' else ','}{text}" if key in environ else text
    return environ


def wsgi_handler(app, run_on_thread):
    async def handle(request, invocation):
        result = await run_on_thread(invocation, lambda: _run(app, request, invocation))
        if result is not None:
            request.response.send(*result)

    return handle


class _Start:
    """start_response, and the write() that it returns."""

    def __init__(self, response):
        self._response = response
        self.status = None
        self.headers = None
        self.begun = False

    def __call__(self, status, headers, exc_info=None):
        if exc_info is not None:
            try:
                if self.begun:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        elif self.status is not None:
            raise BadResponse("start_response was called twice")
        code = status.partition(" ")[0]
        if not code.isdigit():
            raise BadResponse(f"the status {status[:100]!r} does not begin with a number")
        self.status, self.headers = int(code), list(headers)
        return self.write

    def begin(self):
        if self.status is None:
            raise BadResponse("the app has not called start_response")
        if not self.begun:
            self.begun = True
            self._response.call_blocking(self._response.start, self.status, self.headers)

    def write(self, data):
        self.begin()
        if data:
            self._response.write_blocking(data)


def _run(app, request, invocation):
    """On a thread. What is to be sent at once, or None where it was sent in pieces."""
    response = request.response
    start = _Start(response)
    pieces = app(make_environ(request, invocation), start)
    try:
        if isinstance(pieces, (list, tuple)) and not start.begun and start.status is not None:
            return start.status, start.headers, b"".join(pieces)
        for piece in pieces:
            if not isinstance(piece, bytes):
                raise BadResponse(f"a WSGI app yields bytes, not {type(piece).__name__}")
            if piece:
                start.write(piece)
                if not response.wants_body:
                    break
        start.begin()
        if response.failure is not None:
            raise response.failure
        response.call_blocking(response.end)
        return None
    finally:
        close = getattr(pieces, "close", None)
        if close is not None:
            close()
