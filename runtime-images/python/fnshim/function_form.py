"""The `function` form: `def main(request)` or `def main(request, ctx)`, async or not, that returns what it answers."""

import inspect
import json
from collections.abc import Mapping
from urllib.parse import parse_qs, unquote

from .forms import is_async, parameter_count
from .invocation import Context

_TEXT = ("content-type", "text/plain; charset=utf-8")
_JSON = ("content-type", "application/json")
_BYTES = ("content-type", "application/octet-stream")


class Headers(Mapping):
    """Headers of a request: names in any case, the first value of each; get_all() has them all."""

    def __init__(self, pairs):
        self._pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in pairs]

    def __getitem__(self, name):
        wanted = name.lower()
        for key, value in self._pairs:
            if key == wanted:
                return value
        raise KeyError(name)

    def __iter__(self):
        return iter(dict(self._pairs))

    def __len__(self):
        return len(dict(self._pairs))

    def get_all(self, name):
        return [value for key, value in self._pairs if key == name.lower()]

    def __repr__(self):
        return f"Headers({self._pairs!r})"


class FunctionRequest:
    """What a plain function is given.

    In a plain `def`, `body`, `text()`, `json()` and iterating over `stream()` wait for the body. In an `async def`
    the body comes by `await request.read()`, after which the others have it, or by `async for piece in request`.
    """

    def __init__(self, request, invocation, on_loop):
        self._request = request
        self._on_loop = on_loop
        self._body = None
        self.method = request.head.method.decode("latin-1")
        self.raw_path = request.path_text
        self.path = unquote(self.raw_path)
        self.query_string = request.head.query.decode("latin-1")
        self.headers = Headers(request.user_headers())
        self.client = request.client
        self.id = invocation.id
        self.ctx = Context(invocation)

    @property
    def url(self):
        query = f"?{self.query_string}" if self.query_string else ""
        return f"{self._request.scheme}://{self._request.host}{self.raw_path}{query}"

    @property
    def args(self):
        """The first value of each parameter of the query."""
        return {name: values[0] for name, values in self.query.items()}

    @property
    def query(self):
        """All values of each parameter of the query."""
        return parse_qs(self.query_string, keep_blank_values=True)

    async def read(self):
        """The whole body. In an async function."""
        if self._body is None:
            self._body = await self._request.body.read_all()
        return self._body

    @property
    def body(self):
        """The whole body, bytes."""
        if self._body is None:
            if self._on_loop and not self._request.body.complete:
                raise RuntimeError("the body has not come yet: in an async function, await request.read() first")
            self._body = b"".join(iter(self._request.body.read_blocking, b""))
        return self._body

    def text(self):
        return self.body.decode("utf-8-sig")

    def json(self):
        return json.loads(self.body)

    def form(self):
        """A body of application/x-www-form-urlencoded: all values of each field. Files are not in it: see the error."""
        kind = self.headers.get("content-type", "").lower()
        if kind.startswith("multipart/"):
            raise TypeError(
                "form() reads application/x-www-form-urlencoded, and this body is multipart (an upload): parse request.body, "
                "by email.message_from_bytes for instance"
            )
        return parse_qs(self.text(), keep_blank_values=True)

    def stream(self):
        """The body in pieces, as they come. In a plain function."""
        if self._on_loop:
            raise RuntimeError("in an async function, use: async for piece in request")
        return iter(self._request.body.read_blocking, b"")

    async def __aiter__(self):
        while piece := await self._request.body.read():
            yield piece


def function_handler(function, run_on_thread):
    count = parameter_count(function)
    on_loop = is_async(function)

    def call(given, invocation):
        if count == 0:
            return function()
        return function(given) if count is None or count == 1 else function(given, given.ctx)

    async def handle(request, invocation):
        given = FunctionRequest(request, invocation, on_loop)
        if on_loop:
            result = call(given, invocation)
            if inspect.isawaitable(result):
                result = await result
        else:
            result = await run_on_thread(invocation, lambda: call(given, invocation))
            if inspect.isawaitable(result):
                result = await result
        status, headers, body = parts(result)
        response = request.response
        if isinstance(body, bytes):
            response.send(status, headers, body)
        elif hasattr(body, "__aiter__"):
            await _stream_async(response, status, headers, body)
        else:
            await run_on_thread(invocation, lambda: _stream(response, status, headers, body))

    return handle


def parts(result):
    """(status, headers, body): bytes, or something to iterate over. Raises TypeError where it is no answer."""
    status, headers, body = None, [], result
    if isinstance(result, tuple):
        if len(result) not in (2, 3) or isinstance(result[1], bool) or not isinstance(result[1], int):
            raise TypeError("a function returns a tuple as (body, status) or (body, status, headers)")
        body, status = result[:2]
        if len(result) == 3:
            given = result[2]
            headers = list(given.items()) if isinstance(given, Mapping) else [tuple(pair) for pair in given or ()]
    default, body = _body(body)
    if default is not None and not _is_typed(headers):
        headers = [*headers, default]
    flat = []
    for name, value in headers:
        values = value if isinstance(value, (list, tuple)) else [value]
        flat += [(name, one if isinstance(one, (str, bytes)) else str(one)) for one in values]
    if status is None:
        status = 204 if result is None else 200
    return status, flat, body


def _body(body):
    """(content type of it, bytes or something to iterate over)"""
    if body is None:
        return None, b""
    if isinstance(body, str):
        return _TEXT, body.encode("utf-8", "surrogatepass")
    if isinstance(body, (bytes, bytearray, memoryview)):
        return _BYTES, bytes(body)
    if isinstance(body, (dict, list, int, float)):
        return _JSON, json.dumps(body).encode()
    if hasattr(body, "__aiter__") or hasattr(body, "__next__"):
        return None, body
    raise TypeError(f"a function returns str, bytes, dict, list, a generator, None, or a tuple with a status; not {type(body).__name__}")


def _piece(piece):
    if isinstance(piece, str):
        return piece.encode("utf-8", "surrogatepass")
    if isinstance(piece, (bytes, bytearray, memoryview)):
        return bytes(piece)
    raise TypeError(f"a generator yields str or bytes, not {type(piece).__name__}")


def _is_typed(headers):
    return any(str(name).lower() == "content-type" for name, _ in headers)


def _typed(headers, first):
    if _is_typed(headers):
        return headers
    return [*headers, _TEXT if isinstance(first, str) else _BYTES]


async def _stream_async(response, status, headers, pieces):
    iterator = pieces.__aiter__()
    try:
        if _is_typed(headers):
            response.start_soon(status, headers)
        started = False
        while True:
            try:
                piece = await iterator.__anext__()
            except StopAsyncIteration:
                break
            data = _piece(piece)
            if not started:
                started = True
                response.start_once(status, _typed(headers, piece))
                if not response.wants_body:
                    break
            response.write(data)
            await response.drain()
        response.start_once(status, headers)
        response.end()
    finally:
        close = getattr(iterator, "aclose", None)
        if close is not None:
            await close()


def _stream(response, status, headers, pieces):
    """On a thread."""
    try:
        if _is_typed(headers):
            response.call_blocking(response.start_soon, status, headers)
        started = False
        for piece in pieces:
            data = _piece(piece)
            if not started:
                started = True
                response.call_blocking(response.start_once, status, _typed(headers, piece))
                if not response.wants_body:
                    break
            response.write_blocking(data)
        response.call_blocking(response.start_once, status, headers)
        if response.failure is not None:
            raise response.failure
        response.call_blocking(response.end)
    finally:
        close = getattr(pieces, "close", None)
        if close is not None:
            close()
