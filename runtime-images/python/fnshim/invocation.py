"""One request as the function's code sees it: id, deadline, abort, wait_until; and the slots that all of them share."""

import asyncio
import concurrent.futures
import contextvars
import inspect
import threading
import time

_current = contextvars.ContextVar("fn_invocation", default=None)

MAX_TIMER_SECONDS = 2**31 / 1000


def current():
    """The request that the running code belongs to, or None."""
    return _current.get()


class Counters:
    """What the shim counts; health reports it. Only the loop's thread changes it."""

    def __init__(self):
        self.in_flight = 0
        self.wait_until = 0
        # Called when both have fallen to zero.
        self.when_idle = []

    @property
    def idle(self):
        return self.in_flight == 0 and self.wait_until == 0

    def fell(self):
        if self.idle:
            for listener in self.when_idle:
                listener()


counters = Counters()


class FunctionInfo:
    """What a function may know about itself."""

    def __init__(self, init, instance):
        self.name = init["name"]
        self.namespace = init["namespace"]
        self.number = init["number"]
        self.revision = init["revision"]
        self.memory_mib = init["memoryMib"]
        self.timeout_ms = init["timeoutMs"]
        self.instance = instance


class Invocation:
    """Its slot is taken at the start, and given back when the response is over *and* the handler has settled.

    Code that works on after its client went away is still work. The deadline bounds it.
    """

    def __init__(self, request_id, deadline, info, loop):
        self.id = request_id
        # Milliseconds since 1970.
        self.deadline = deadline
        self.info = info
        self.loop = loop
        self.pending_text = {}
        # For code on threads; set when the client has gone.
        self.gone = threading.Event()
        # Called, on the loop's thread, when the response is over.
        self.on_close = []
        self._settled = False
        self._closed = False
        self._released = False
        counters.in_flight += 1

    def bind(self):
        """A context for the handler's code, in which current() is this."""
        context = contextvars.copy_context()
        context.run(_current.set, self)
        return context

    def settle(self):
        """The handler has returned or raised. On the loop's thread, as all of these."""
        self._settled = True
        if self._closed:
            self._release()

    def close(self, complete):
        """The response is over; `complete`: all of it was sent."""
        if self._closed:
            return
        self._closed = True
        if not complete:
            self.gone.set()
        for listener in self.on_close:
            listener()
        if self._settled:
            return self._release()
        left = max(self.deadline / 1000 - time.time(), 0)
        self.loop.call_later(min(left, MAX_TIMER_SECONDS), self._release)

    def _release(self):
        if self._released:
            return
        self._released = True
        counters.in_flight -= 1
        counters.fell()


class Context:
    """The `ctx` of a plain function."""

    def __init__(self, invocation):
        self._invocation = invocation
        info = invocation.info
        self.request_id = invocation.id
        # Milliseconds since 1970.
        self.deadline = invocation.deadline
        self.function_name = info.name
        self.namespace = info.namespace
        # The number of the revision.
        self.revision = info.number
        self.memory_mib = info.memory_mib

    def remaining_ms(self):
        """Milliseconds until the deadline; 0 once it has passed."""
        return max(0, int(self.deadline - time.time() * 1000))

    @property
    def disconnected(self):
        """Whether the client went away before the response was complete."""
        return self._invocation.gone.is_set()

    def wait_until(self, work):
        """The instance is neither frozen nor stopped until this is done, or the function's timeout has passed.

        `work`: a coroutine or any awaitable, a future of concurrent.futures, or a function without parameters,
        which is then called on a thread of its own.
        """
        wait_until(self._invocation, work)


def wait_until(invocation, work):
    from .errors import error_text
    from .logs import flush_pending, log

    def settled(error):
        if error is not None:
            log("error", "err", f"What was given to wait_until failed: {error_text(error)}", invocation.id)
        flush_pending(invocation)
        counters.wait_until -= 1
        counters.fell()

    async def run():
        try:
            if inspect.isawaitable(work):
                await work
            elif isinstance(work, concurrent.futures.Future):
                await asyncio.wrap_future(work)
            else:
                context = contextvars.copy_context()
                await _on_thread(invocation.loop, lambda: context.run(work))
        except asyncio.CancelledError:
            settled(None)
        except Exception as error:
            settled(error)
        else:
            settled(None)

    if not (inspect.isawaitable(work) or isinstance(work, concurrent.futures.Future) or callable(work)):
        raise TypeError("wait_until takes an awaitable, a future or a function without parameters")
    context = invocation.bind()

    def begin():
        counters.wait_until += 1
        task = invocation.loop.create_task(run(), context=context)
        _kept.add(task)
        task.add_done_callback(_kept.discard)

    if _on_loop(invocation.loop):
        begin()
    else:
        # Before the handler returns: else the instance could be taken for idle in between.
        done = threading.Event()
        invocation.loop.call_soon_threadsafe(lambda: (begin(), done.set()))
        done.wait()


# The loop itself holds tasks only weakly.
_kept = set()


def _on_loop(loop):
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


def _on_thread(loop, call):
    """Not on the pool of the handlers: work after the answer must not take the next request's thread."""
    future = loop.create_future()

    def finish(method, value):
        if not future.done():
            method(value)

    def run():
        try:
            result = call()
        except BaseException as error:
            loop.call_soon_threadsafe(finish, future.set_exception, error if isinstance(error, Exception) else RuntimeError(repr(error)))
        else:
            loop.call_soon_threadsafe(finish, future.set_result, result)

    threading.Thread(target=run, name="fn-wait-until", daemon=True).start()
    return future
