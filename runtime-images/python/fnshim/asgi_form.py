"""The `asgi` form (ASGI 3.0): lifespan, http and websocket."""

import asyncio
from urllib.parse import unquote

from .body import ClientGone
from .errors import LoadError
from .limits import SHUTDOWN_TIMEOUT_SECONDS
from .response import BadResponse
from .websocket import WebSocket

_VERSION = {"version": "3.0", "spec_version": "2.3"}


class Lifespan:
    """Startup before the first request, shutdown at the end; an app that knows neither is left alone."""

    def __init__(self, app):
        self._app = app
        self._messages = asyncio.Queue()
        self._done = {"startup": None, "shutdown": None}
        self._task = None
        self._supported = False
        # Shared with each request, as a copy.
        self.state = {}

    async def startup(self):
        """Raises what the app raised where it had begun, or LoadError with the reason that it gave."""
        loop = asyncio.get_running_loop()
        self._done = {"startup": loop.create_future(), "shutdown": loop.create_future()}
        self._messages.put_nowait({"type": "lifespan.startup"})
        scope = {"type": "lifespan", "asgi": _VERSION, "state": self.state}
        self._task = loop.create_task(self._app(scope, self._receive, self._send))
        await asyncio.wait({self._task, self._done["startup"]}, return_when=asyncio.FIRST_COMPLETED)
        if not self._done["startup"].done():
            # It raised, or returned, before it said anything: it does not know the protocol, as the standard allows.
            self._task.exception()
            self._task = None
            return
        failure = self._done["startup"].result()
        if failure is not None:
            raise LoadError("StartupFailed", f"the app’s startup failed: {failure or 'it gave no reason'}")
        self._supported = True

    async def shutdown(self):
        """Waits a bounded time. Returns what went wrong, or None."""
        if not self._supported or self._task is None or self._task.done():
            return None
        self._messages.put_nowait({"type": "lifespan.shutdown"})
        waits = {self._task, self._done["shutdown"]}
        done, _ = await asyncio.wait(waits, timeout=SHUTDOWN_TIMEOUT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            return f"the app’s shutdown took more than {SHUTDOWN_TIMEOUT_SECONDS} s"
        return self._done["shutdown"].result() if self._done["shutdown"].done() else None

    async def _receive(self):
        return await self._messages.get()

    async def _send(self, message):
        phase, _, result = message["type"].removeprefix("lifespan.").partition(".")
        future = self._done.get(phase)
        if future is None or future.done():
            return
        if result == "complete":
            future.set_result(None)
        elif result == "failed":
            future.set_result(str(message.get("message", "")))


def _scope(request, invocation, state):
    head = request.head
    return {
        "asgi": _VERSION,
        "http_version": f"1.{head.minor}",
        "path": unquote(request.path_text),
        "raw_path": head.path,
        "query_string": head.query,
        "root_path": unquote(request.prefix),
        "headers": request.user_headers(),
        "client": (request.client, 0),
        "server": request.server,
        "state": dict(state),
        "fn": {"request_id": invocation.id, "deadline": invocation.deadline},
    }


class _Exchange:
    """receive and send of one request."""

    def __init__(self, request, loop):
        self._request = request
        self._response = request.response
        self._body_ended = False
        self._over = loop.create_future()
        self._start = None
        self.complete = False

    def closed(self):
        if not self._over.done():
            self._over.set_result(None)

    async def receive(self):
        if not self._body_ended:
            body = self._request.body
            try:
                piece = await body.read()
            except ClientGone:
                return {"type": "http.disconnect"}
            more = bool(piece) and not (body.complete and body.empty)
            self._body_ended = not more
            return {"type": "http.request", "body": piece, "more_body": more}
        await self._over
        return {"type": "http.disconnect"}

    async def send(self, message):
        kind = message["type"]
        response = self._response
        if response.gone:
            return  # the client went away: receive() says so, and what is sent goes nowhere
        try:
            if kind == "http.response.start":
                if self._start is not None:
                    raise BadResponse("http.response.start was sent twice")
                headers = list(message.get("headers", ()))
                response.head_bytes(message["status"], headers)
                self._start = message["status"], headers
                response.start_soon(*self._start)
            elif kind == "http.response.body":
                await self._send_body(bytes(message.get("body", b"")), message.get("more_body", False))
            else:
                raise BadResponse(f"the app sent {kind!r} where a response belongs")
        except ClientGone:
            return

    async def _send_body(self, body, more):
        response = self._response
        if self._start is None or self.complete:
            raise BadResponse("http.response.body was sent before http.response.start, or after the end")
        status, headers = self._start
        if not response.started and not more:
            self.complete = True
            return response.send(status, headers, body)
        response.start_once(status, headers)
        response.write(body)
        if more:
            return await response.drain()
        self.complete = True
        response.end()

    def check(self):
        """After the app has returned."""
        if not self.complete and not self._response.gone:
            raise BadResponse("the app returned without a complete response")


def asgi_handler(app, lifespan):
    async def handle(request, invocation):
        exchange = _Exchange(request, invocation.loop)
        invocation.on_close.append(exchange.closed)
        scope = {"type": "http", "method": request.head.method.decode("latin-1").upper(), "scheme": request.scheme}
        await app({**scope, **_scope(request, invocation, lifespan.state)}, exchange.receive, exchange.send)
        exchange.check()

    return handle


def asgi_websocket(app, lifespan):
    async def handle(request, invocation):
        socket = WebSocket(request, invocation.loop)
        scope = {
            "type": "websocket",
            "scheme": "wss" if request.scheme == "https" else "ws",
            "subprotocols": socket.offered,
            "extensions": {"websocket.http.response": {}},
        }
        try:
            await app({**scope, **_scope(request, invocation, lifespan.state)}, socket.receive, socket.send)
        except Exception:
            socket.fail()
            raise
        await socket.finish()

    return handle
