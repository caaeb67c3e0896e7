"""Boot, the requests of the platform, and the way of a request to the function.

The loop runs on the main thread, where user code expects to be. While a module loads, which blocks, the main thread
does that, and the loop goes on for so long on a helper thread: health is answered, the time limit is kept.
"""

import asyncio
import math
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from . import errors, forms, load, logs
from .body import ClientGone
from .control import Control, expect
from .errors import error_name, error_text
from .invocation import Invocation, counters
from .limits import MAX_THREADS, WARM_UP_AFTER_SECONDS
from .server import Connection
from .termination import Termination
from .websocket import handshake_error, is_upgrade

_BOOT = ("FN_INSTANCE", "FN_NONCE", "FN_SOCKET", "FN_PORT", "FN_CODE")

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
        self.socket_path = environment.get("FN_SOCKET")
        self.port = environment.get("FN_PORT")
        self.loop = asyncio.new_event_loop()
        # `loading` and `failed` are told as draining: neither takes requests, and neither is generic any more.
        self.state = "generic"
        self.slots = 0
        self.info = None
        self._handle = None
        self._websocket = None
        self._pool = None
        self._requests = 0
        self._job = None
        self._tasks = set()
        # A socket is in a folder of its instance alone; an address on a network is used again.
        self._over_tcp = self.socket_path is None
        self.control = Control(self, environment.get("FN_NONCE", ""), environment.get("FN_CODE"))
        self.termination = Termination(self, deferred=self._over_tcp)
        # Ends the process, whatever a module puts in the place of os._exit.
        self.leave = os._exit

    # The loop.

    def run(self):
        loop = self.loop
        loop.set_exception_handler(self._on_loop_error)
        loop.run_until_complete(self._listen())
        self.termination.listen()
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
            # Whoever connects to it is told apart by the folder it is in. The mode comes with the socket:
            # in a sandbox (gVisor) it can only be made so, not changed.
            mask = os.umask(0o111)
            try:
                await self.loop.create_unix_server(make, self.socket_path, backlog=1024)
            finally:
                os.umask(mask)
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

    def spawn(self, coroutine, context=None):
        task = self.loop.create_task(coroutine, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # Requests.

    def _on_request(self, request):
        target = request.head.target
        if target.startswith(b"/.fn/"):
            if self._over_tcp and self._misdirected(request.head):
                return request.response.refuse(b"not-me")
            return self.spawn(self.control.answer(request))
        refused = self._refusal(request.head)
        if refused is not None:
            return request.response.refuse(refused)
        expect(request)
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
        self.spawn(self._serve(handle, request, invocation), invocation.bind())

    def _misdirected(self, head):
        """Whether another instance is meant. Over TCP each request must say which: it may be for one that had our address before."""
        meant = head.get(b"fn-instance")
        return self._over_tcp if meant is None else meant != self.instance

    def _refusal(self, head):
        if self._misdirected(head) or self.state == "generic":
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

    # Becoming the function.

    async def become(self, init):
        """Returns the form; raises what the module raises."""
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

            lifespan = Lifespan(found)
            await lifespan.startup()
            self.termination.shutdown = lifespan.shutdown
            self._handle = asgi_handler(found, lifespan)
            self._websocket = asgi_websocket(found, lifespan)
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

    # The end.

    def serves_on(self):
        """Whether it goes on serving after SIGTERM."""
        specialising = self.state == "generic" and self.control.code.phase != "none"
        return self._over_tcp and (specialising or self.state in ("loading", "ready"))

    def becoming(self):
        """Whether it becomes a function just now."""
        return self.state == "loading" or self.control.code.phase == "receiving"


def _settle(future, value):
    # Where loading took too long nobody waits any more.
    if not future.done():
        future.set_result(value)


def _number(text):
    try:
        value = float(text or "")
    except ValueError:
        return 0
    return value if math.isfinite(value) else 0


def main():
    environment = {name: os.environ.pop(name) for name in _BOOT if name in os.environ}
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

    os._exit = shim.leave = tell_and_leave
    try:
        shim.run()
    except OSError as error:
        os.write(2, f"fn shim: cannot listen: {error}\n".encode())
        leave(2)
