"""When the process ends.

On one host SIGTERM comes after the platform has drained: it is a drain itself. In a cluster it comes first, to a pod
that gateways still hold leases of: there the instance serves on until it is told to drain, or nobody has used it for a
while.
"""

import atexit
import contextvars
import signal

from . import logs
from .errors import error_text
from .invocation import counters
from .limits import IDLE_AFTER_SIGTERM_SECONDS, REFUSE_AFTER_SIGTERM_SECONDS


class Termination:
    """Listens to SIGTERM once `listen` was called. `deferred`: the function hears of it at the end, not at once."""

    def __init__(self, shim, deferred):
        self._shim = shim
        self._deferred = deferred
        self._signals = 0
        self._ending = False
        self._idle = None
        self._handler = signal.SIG_DFL
        # A coroutine function that ends the function in its own way, or None.
        self.shutdown = None

    def listen(self):
        loop = self._shim.loop
        loop.add_signal_handler(signal.SIGTERM, self._on_signal)
        if self._deferred:
            self._defer(loop)

    def on_drain(self):
        """The instance was told to drain."""
        if self._signals > 0:
            self._look()

    def _on_signal(self):
        self._signals += 1
        if self._signals == 1:
            counters.when_idle.append(self._look)
        if self._signals > 1 or not self._shim.serves_on():
            return self._drain()
        self._shim.loop.call_later(REFUSE_AFTER_SIGTERM_SECONDS, self._drain)
        self._look()

    def _drain(self):
        self._shim.state = "draining"
        self._look()

    def _look(self):
        """At SIGTERM, at a drain, and whenever nothing is in flight any more."""
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if not counters.idle:
            return
        if self._shim.state in ("draining", "failed"):
            return self._end()
        self._idle = self._shim.loop.call_later(IDLE_AFTER_SIGTERM_SECONDS, self._on_idle)

    def _on_idle(self):
        if self._shim.becoming():
            self._look()
        elif counters.idle:
            self._drain()

    def _end(self):
        if not self._ending:
            self._ending = True
            # As from nowhere: the request that happened to be the last one has nothing to do with it.
            self._shim.spawn(self._shut_down(), contextvars.Context())

    async def _shut_down(self):
        status = self._tell_function()
        problem = None if self.shutdown is None else await self.shutdown()
        if problem:
            logs.log("error", "err", problem)
        atexit._run_exitfuncs()
        self._shim.leave(status)

    def _tell_function(self):
        """Its own handler of SIGTERM, where it was deferred. Returns the exit code."""
        if not callable(self._handler):
            return 0
        try:
            self._handler(signal.SIGTERM, None)
        except SystemExit as error:
            return error.code if isinstance(error.code, int) else 0 if error.code is None else 1
        except BaseException as error:
            logs.log("error", "err", error_text(error))
            return 1
        return 0

    def _defer(self, loop):
        """From now on whoever listens to SIGTERM is told at the end: who ends at once would lose what gateways still send."""
        set_handler, get_handler = signal.signal, signal.getsignal
        add_handler, remove_handler = loop.add_signal_handler, loop.remove_signal_handler

        def signal_signal(signalnum, handler):
            if signalnum != signal.SIGTERM:
                return set_handler(signalnum, handler)
            before, self._handler = self._handler, handler
            return before

        def getsignal(signalnum):
            return self._handler if signalnum == signal.SIGTERM else get_handler(signalnum)

        def add_signal_handler(sig, callback, *args):
            if sig != signal.SIGTERM:
                return add_handler(sig, callback, *args)
            self._handler = lambda _signal, _frame: callback(*args)

        def remove_signal_handler(sig):
            if sig != signal.SIGTERM:
                return remove_handler(sig)
            there, self._handler = callable(self._handler), signal.SIG_DFL
            return there

        signal.signal, signal.getsignal = signal_signal, getsignal
        loop.add_signal_handler, loop.remove_signal_handler = add_signal_handler, remove_signal_handler
