"""The platform's own requests, below /.fn/: health, code, init and drain."""

import asyncio
import hashlib
import hmac
import json
import math
import time

from . import logs
from .body import ClientGone
from .errors import LoadError, describe_error, error_text
from .invocation import FunctionInfo, counters
from .limits import LOAD_TIMEOUT_SECONDS, MAX_DRAIN_BODY_BYTES, MAX_INIT_BODY_BYTES
from .receive_code import BadCode, CodeFolder

# What a nonce begins with that is known by its SHA-256 alone, in hex.
_HASHED = "sha256:"


class Control:
    """`nonce`: what the instance was created with, or `sha256:` and its hash. `folder`: where code goes that comes over the network, or None."""

    def __init__(self, shim, nonce, folder):
        self._shim = shim
        self._nonce = nonce
        self.code = CodeFolder(folder)

    async def answer(self, request):
        route = request.head.method + b" " + request.head.target
        response = request.response
        try:
            if route == b"GET /.fn/health":
                _send_json(response, 200, self._health())
            elif route == b"POST /.fn/init":
                await self._init(request)
            elif route == b"POST /.fn/code" and self.code.expected:
                await self._receive_code(request)
            elif route == b"POST /.fn/drain":
                await self._drain(request)
            else:
                detail = "The shim has health, init and drain, and code where it comes over the network."
                response.send_problem(404, "not-found", "Not found", detail)
        except ClientGone:
            response.abort()
        except _Refused as refused:
            response.send_problem(refused.status, "bad-request", "Bad request", str(refused))
        except Exception as error:
            logs.log("error", "sys", f"the shim failed on {route.decode('latin-1')}: {error_text(error)}")
            if response.started:
                response.abort()
            else:
                response.send_problem(500, "internal", "Internal error", "The shim failed.")

    def _health(self):
        shim = self._shim
        status = shim.state if shim.state in ("generic", "ready") else "draining"
        return {
            "status": status,
            "instance": shim.instance,
            "revision": None if shim.info is None else shim.info.revision,
            "inFlight": counters.in_flight,
            "waitUntil": counters.wait_until,
        }

    async def _receive_code(self, request):
        shim, response = self._shim, request.response

        def forbid():
            response.send_problem(403, "forbidden", "Not allowed", "This instance takes no code, or not from you.")

        if shim.state != "generic" or self.code.phase != "none" or not self._is_nonce(request.head.get(b"fn-nonce")):
            return forbid()
        expect(request)
        try:
            # A drain may come in between.
            received = await self.code.receive(request, lambda: shim.state == "generic")
        except BadCode as error:
            if error.status == 413:
                return response.send_problem(413, "body-too-large", "Body too large", str(error))
            return response.send_problem(422, "invalid", "Invalid input", str(error))
        if received is None:
            return forbid()
        _send_json(response, 200, received)

    async def _init(self, request):
        shim, response = self._shim, request.response
        body = None
        if self._takes_init():
            expect(request)
            body = await _read_json(request, MAX_INIT_BODY_BYTES)
        # Looked at again after the wait: another init, or code, may have come in between.
        if not self._takes_init() or not self._is_nonce(body.get("nonce") if isinstance(body, dict) else None):
            return response.send_problem(403, "forbidden", "Not allowed", "This instance cannot be initialised, or not by you.")
        if not _is_init(body):
            return response.send_problem(422, "invalid", "Invalid input", "init lacks a field, or one is of the wrong type.")
        shim.state = "loading"
        shim.info = FunctionInfo(body, shim.instance)
        started = time.monotonic()
        try:
            form = await asyncio.wait_for(shim.become(body), LOAD_TIMEOUT_SECONDS)
        except (asyncio.TimeoutError, TimeoutError) as error:
            late = LoadError("LoadTimeout", f"the module did not finish loading within {LOAD_TIMEOUT_SECONDS} s")
            failure = late if time.monotonic() - started >= LOAD_TIMEOUT_SECONDS * 0.99 else error
            return self._failed(response, failure)
        except BaseException as error:
            return self._failed(response, error)
        # A drain, or SIGTERM, may have come while it loaded.
        if shim.state == "loading":
            shim.state = "ready"
        load_ms = (time.monotonic() - started) * 1000
        _send_json(response, 200, {"form": form, "slots": shim.slots, "loadMs": load_ms})

    def _takes_init(self):
        return self._shim.state == "generic" and self.code.phase != "receiving"

    def _failed(self, response, error):
        self._shim.state = "failed"
        _send_json(response, 422, {"error": describe_error(error)})

    def _is_nonce(self, given):
        """In time that does not depend on where they differ."""
        if not isinstance(given, str) or self._nonce == "":
            return False
        shown = given.encode(errors="replace")
        if self._nonce.startswith(_HASHED):
            shown = f"{_HASHED}{hashlib.sha256(shown).hexdigest()}".encode()
        return hmac.compare_digest(shown, self._nonce.encode())

    async def _drain(self, request):
        body = await _read_json(request, MAX_DRAIN_BODY_BYTES)
        if not isinstance(body, dict):
            return request.response.send_problem(422, "invalid", "Invalid input", 'drain takes {"deadlineMs": number}.')
        self._shim.state = "draining"
        _send_json(request.response, 200, self._health())
        self._shim.termination.on_drain()


class _Refused(Exception):
    def __init__(self, status, detail):
        super().__init__(detail)
        self.status = status


def expect(request):
    """Says that the body may come, where the client waits for that."""
    if (request.head.get(b"expect") or "").lower() == "100-continue" and not request.body.complete:
        request.connection.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


async def _read_json(request, limit):
    if request.head.length > limit:
        raise _Refused(413, f"the body is over {limit} bytes")
    body = await request.body.read_all(limit)
    if body is None:
        raise _Refused(413, f"the body is over {limit} bytes")
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise _Refused(400, "the body is not JSON") from None


def _send_json(response, status, value):
    response.send(status, [("content-type", "application/json")], json.dumps(value).encode())


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_init(body):
    texts = all(isinstance(body.get(key), str) for key in ("revision", "namespace", "name", "code", "entry"))
    numbers = all(_is_number(body.get(key)) for key in ("number", "timeoutMs", "memoryMib", "memoryClassMib"))
    slots = body.get("slots")
    slots_fit = slots is None or (isinstance(slots, int) and not isinstance(slots, bool) and 1 <= slots <= 1000)
    env = body.get("env")
    env_fits = isinstance(env, dict) and all(isinstance(value, str) for value in env.values())
    return texts and numbers and slots_fit and env_fits and ".." not in body["entry"].split("/")
