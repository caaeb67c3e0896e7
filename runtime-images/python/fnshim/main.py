"""Boot, the requests of the platform, and the way of a request to the function.

The loop runs on the main thread, where user code expects to be. While a module loads, which blocks, the main thread
does that, and the loop goes on for so long on a helper thread: health is answered, the time limit is kept.
"""

import asyncio
import atexit
import hmac
import json
import math
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from . import errors, forms, load, logs
from .body import ClientGone
from .errors import LoadError, describe_error, error_name, error_text
from .invocation import FunctionInfo, Invocation, counters
from .limits import (
    LOAD_TIMEOUT_SECONDS,
    MAX_DRAIN_BODY_BYTES,
    MAX_INIT_BODY_BYTES,
    MAX_THREADS,
    WARM_UP_AFTER_SECONDS,
)
from .server import Connection
from .websocket import handshake_error, is_upgrade

# What functions use most: imported while the instance waits in the pool, paid by nobody.
_WARM = (
    "base64 collections contextlib copy csv dataclasses datetime decimal email.message email.parser enum functools gzip hashlib "
    "html http.client http.cookies importlib.metadata inspect io itertools logging.config math mimetypes pathlib pickle "
    "random secrets sqlite3 ssl statistics string tempfile textwrap typing urllib.error urllib.parse urllib.request uuid "
    "xml.etree.ElementTree zipfile zoneinfo ipaddress queue multiprocessing.connection unicodedata ctypes "
    "encodings.idna difflib calendar locale struct socket threading shutil operator glob fractions bisect heapq "
    f"{__package__}.lambda_form {__package__}.events"
).split()


class Shim:
    def __init__(self, environment):
        self.instance = environment.get("FN_INSTANCE", "")
        self.nonce = environment.get("FN_NONCE", "")
        self.socket_path = environment.get("FN_SOCKET")
        self.port = environment.get("FN_PORT")
        self.loop = asyncio.new_event_loop()
        # `loading` and `failed` are told as draining: neither takes requests, and neither is generic any more.
        self.state = "generic"
        self.slots = 0
        self.info = None
        self.lifespan = None
        self._handle = None
        self._websocket = None
        self._pool = None
        self._requests = 0
        self._job = None
        self._terminating = False
        self._tasks = set()

    # The loop.

    def run(self):
        loop = self.loop
        loop.set_exception_handler(self._on_loop_error)
        loop.run_until_complete(self._listen())
        loop.add_signal_handler(signal.SIGTERM, self._terminate)
        loop.call_later(WARM_UP_AFTER_SECONDS, self._warm_up, 0)
        while True:
            loop.run_forever()
            job, self._job = self._job, None
            if job is None:
                return
            self._load_beside_loop(*job)

    def _load_beside_loop(self, init, future):
        helper = threading.Thread(target=self.loop.run_forever, name="fn-loop", daemon=True)
        helper.start()
        try:
            result = load.load(init)
            failure = None
        except BaseException as error:
            result, failure = None, error
        self.loop.call_soon_threadsafe(_settle, future, (result, failure))
        self.loop.call_soon_threadsafe(self.loop.stop)
        helper.join()

    async def _listen(self):
        def make():
            return Connection(self.loop, self._on_request)

        if self.socket_path is not None:
            await self.loop.create_unix_server(make, self.socket_path, backlog=1024)
            # Whoever connects to it is told apart by the folder it is in.
            os.chmod(self.socket_path, 0o666)
        else:
            await self.loop.create_server(make, "0.0.0.0", int(self.port), backlog=1024)

    def _warm_up(self, index):
        if self.state != "generic" or index >= len(_WARM):
            return
        try:
            __import__(_WARM[index])
        except ImportError:
            pass  # a Python without it: a function that needs it is told so
        self.loop.call_soon(self._warm_up, index + 1)

    def _on_loop_error(self, _loop, context):
        error = context.get("exception")
        text = context.get("message", "an error in the event loop")
        logs.log("error", "err", text if error is None else f"{text}: {error_text(error)}")

    def _spawn(self, coroutine, context=None):
        task = self.loop.create_task(coroutine, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # Requests.

    def _on_request(self, request):
        target = request.head.target
        if target.startswith(b"/.fn/"):
            return self._spawn(self._control(request))
        refused = self._refusal(request.head)
        if refused is not None:
            return request.response.refuse(refused)
        _expect(request)
        head = request.head
        self._requests += 1
        request_id = head.get(b"x-request-id") or f"{self.instance}-{self._requests}"
        deadline = _number(head.get(b"fn-deadline")) or time.time() * 1000 + self.info.timeout_ms
        invocation = Invocation(request_id, deadline, self.info, self.loop)
        request.invocation = invocation
        request.response.on_close = invocation.close
        handle = self._handle
        if self._websocket is not None and is_upgrade(head):
            problem = handshake_error(head)
            if problem is not None:
                request.response.send_problem(400, "bad-request", "Bad request", problem, request_id)
                return invocation.settle()
            handle = self._websocket
        self._spawn(self._serve(handle, request, invocation), invocation.bind())

    def _refusal(self, head):
        meant = head.get(b"fn-instance")
        if (meant is not None and meant != self.instance) or self.state == "generic":
            return b"not-me"
        if self.state != "ready":
            return b"draining"
        return b"full" if counters.in_flight >= self.slots else None

    async def _serve(self, handle, request, invocation):
        try:
            await handle(request, invocation)
        except ClientGone:
            request.response.abort()  # no error of the function: nobody is there to answer
        except asyncio.CancelledError:
            request.response.abort()
        except SystemExit as error:
            self._leave(error)
        except BaseException as error:
            self._on_raised(error, request, invocation)
        finally:
            logs.flush_pending(invocation)
            invocation.settle()

    def _on_raised(self, error, request, invocation):
        """The stack goes to the log, and never to the caller."""
        # Code that failed only because its client has gone made no error.
        if not (invocation.gone.is_set() and isinstance(error, (ConnectionError, asyncio.CancelledError))):
            logs.log("error", "err", error_text(error), invocation.id)
        response = request.response
        if response.gone or response.over:
            return
        if response.started:
            return response.abort()
        name = error_name(error)[:100]
        detail = f"The function raised {name}. Its log has the rest, under this request's id."
        response.send_problem(500, "function-error", "The function threw an error", detail, invocation.id)

    def _leave(self, error):
        """sys.exit in a handler ends the process with its code, as it does elsewhere."""
        status = error.code
        if status is None:
            status = 0
        elif not isinstance(status, int):
            logs.log("error", "err", str(status))
            status = 1
        os._exit(status)

    def _run_on_thread(self, invocation, call):
        """Runs a plain function in the pool, within the context of its request."""
        context = invocation.bind()

        def run():
            try:
                return context.run(call)
            except SystemExit as error:
                context.run(self._leave, error)
            except StopIteration as error:
                raise RuntimeError("the handler raised StopIteration") from error  # cannot pass through a future

        return self.loop.run_in_executor(self._pool, run)

    # The platform's requests.

    async def _control(self, request):
        route = request.head.method + b" " + request.head.target
        response = request.response
        try:
            if route == b"GET /.fn/health":
                _send_json(response, 200, self._health())
            elif route == b"POST /.fn/init":
                await self._init(request)
            elif route == b"POST /.fn/drain":
                await self._drain(request)
            else:
                response.send_problem(404, "not-found", "Not found", "The shim has health, init and drain.")
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
        status = self.state if self.state in ("generic", "ready") else "draining"
        return {
            "status": status,
            "instance": self.instance,
            "revision": None if self.info is None else self.info.revision,
            "inFlight": counters.in_flight,
            "waitUntil": counters.wait_until,
        }

    async def _init(self, request):
        response = request.response
        body = None
        if self.state == "generic":
            _expect(request)
            body = await _read_json(request, MAX_INIT_BODY_BYTES)
        # Looked at again after the wait: another init may have come in between.
        if self.state != "generic" or not self._is_nonce(body):
            return response.send_problem(403, "forbidden", "Not allowed", "This instance cannot be initialised, or not by you.")
        if not _is_init(body):
            return response.send_problem(422, "invalid", "Invalid input", "init lacks a field, or one is of the wrong type.")
        self.state = "loading"
        self.info = FunctionInfo(body, self.instance)
        started = time.monotonic()
        try:
            form = await asyncio.wait_for(self._become(body), LOAD_TIMEOUT_SECONDS)
        except (asyncio.TimeoutError, TimeoutError) as error:
            late = LoadError("LoadTimeout", f"the module did not finish loading within {LOAD_TIMEOUT_SECONDS} s")
            failure = late if time.monotonic() - started >= LOAD_TIMEOUT_SECONDS * 0.99 else error
            return self._failed(response, failure)
        except BaseException as error:
            return self._failed(response, error)
        # A drain, or SIGTERM, may have come while it loaded.
        if self.state == "loading":
            self.state = "ready"
        load_ms = (time.monotonic() - started) * 1000
        _send_json(response, 200, {"form": form, "slots": self.slots, "loadMs": load_ms})

    def _failed(self, response, error):
        self.state = "failed"
        _send_json(response, 422, {"error": describe_error(error)})

    async def _become(self, init):
        future = self.loop.create_future()
        self._job = (init, future)
        self.loop.stop()  # the main thread goes on in run()
        result, failure = await future
        if failure is not None:
            raise failure
        form, found, handlers = result
        self.slots = init["slots"] or forms.DEFAULT_SLOTS[form]
        self._pool = ThreadPoolExecutor(max_workers=min(self.slots, MAX_THREADS), thread_name_prefix="fn")
        await self._adopt(form, found, handlers)
        return form

    async def _adopt(self, form, found, handlers):
        """Only what the form needs is imported."""
        if form == "asgi":
            from .asgi_form import Lifespan, asgi_handler, asgi_websocket

            self.lifespan = Lifespan(found)
            await self.lifespan.startup()
            self._handle = asgi_handler(found, self.lifespan)
            self._websocket = asgi_websocket(found, self.lifespan)
        elif form == "wsgi":
            from .wsgi_form import wsgi_handler

            self._handle = wsgi_handler(found, self._run_on_thread)
        elif form == "lambda":
            from .lambda_form import async_lambda_handler, lambda_handler

            self._handle = async_lambda_handler(found) if forms.is_async(found) else lambda_handler(found, self._run_on_thread)
        elif form == "function":
            from .function_form import function_handler

            self._handle = function_handler(found, self._run_on_thread)
        # A web app may well call a route of its own so: it gets events as the requests that they are.
        if form in ("events", "lambda") or (form == "function" and handlers):
            from .events import event_takes, with_events, without_http

            otherwise = without_http(list(handlers)) if form == "events" else self._handle
            takes = event_takes(handlers, found if form == "lambda" else None, self._run_on_thread)
            self._handle = with_events(takes, otherwise)

    def _is_nonce(self, body):
        given = body.get("nonce") if isinstance(body, dict) else None
        return isinstance(given, str) and self.nonce != "" and hmac.compare_digest(given.encode(), self.nonce.encode())

    async def _drain(self, request):
        body = await _read_json(request, MAX_DRAIN_BODY_BYTES)
        if not isinstance(body, dict):
            return request.response.send_problem(422, "invalid", "Invalid input", 'drain takes {"deadlineMs": number}.')
        self.state = "draining"
        _send_json(request.response, 200, self._health())

    # The end.

    def _terminate(self):
        """SIGTERM is a drain that ends the process as soon as nothing is in flight."""
        self.state = "draining"
        counters.when_idle.append(self._end_when_idle)
        self._end_when_idle()

    def _end_when_idle(self):
        if counters.in_flight == 0 and counters.wait_until == 0 and not self._terminating:
            self._terminating = True
            self._spawn(self._shut_down())

    async def _shut_down(self):
        problem = None if self.lifespan is None else await self.lifespan.shutdown()
        if problem:
            logs.log("error", "err", problem)
        atexit._run_exitfuncs()
        os._exit(0)


def _settle(future, value):
    # Where loading took too long nobody waits any more.
    if not future.done():
        future.set_result(value)


class _Refused(Exception):
    def __init__(self, status, detail):
        super().__init__(detail)
        self.status = status


def _expect(request):
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


def _number(text):
    try:
        value = float(text or "")
    except ValueError:
        return 0
    return value if math.isfinite(value) else 0


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


def main():
    environment = {name: os.environ.pop(name) for name in ("FN_INSTANCE", "FN_NONCE", "FN_SOCKET", "FN_PORT") if name in os.environ}
    if "FN_SOCKET" not in environment and "FN_PORT" not in environment:
        sys.exit("fn shim: neither FN_SOCKET nor FN_PORT is set")
    shim = Shim(environment)
    logs.open_log()
    logs.capture_output()
    errors.capture_uncaught()
    load.add_site_builtins()
    leave = os._exit

    def tell_and_leave(status):
        """The end by a way that the shim did not choose is told: the platform sees only that the process is gone."""
        if shim.state in ("ready", "loading"):
            logs.log("warn", "sys", f"the process ends with exit code {status}", last=True)
        logs.flush_log()
        leave(status)

    os._exit = tell_and_leave
    try:
        shim.run()
    except OSError as error:
        os.write(2, f"fn shim: cannot listen: {error}\n".encode())
        leave(2)
