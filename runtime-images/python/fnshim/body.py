"""The body of a request, as it comes: read on the loop or on a thread, with back-pressure to the socket."""

import threading
from collections import deque

from .limits import BODY_HIGH_WATER_BYTES


class ClientGone(ConnectionError):
    """The client went away before the body, or the response, was complete."""

    def __init__(self, message="the client closed the connection"):
        super().__init__(message)


class Body:
    """Fed on the loop's thread. One reader at a time, on the loop or on a thread."""

    def __init__(self, loop, pause, resume):
        self._loop = loop
        self._pause = pause
        self._resume = resume
        self._chunks = deque()
        self._bytes = 0
        self._paused = False
        self._condition = threading.Condition()
        self._waiter = None
        self.complete = False
        self.failed = False
        # Nobody wants the rest: it is read and thrown away, so that the connection can be used again.
        self.discarded = False

    @property
    def empty(self):
        """Whether nothing waits to be read."""
        return not self._chunks

    def feed(self, data):
        if self.discarded or not data:
            return
        with self._condition:
            self._chunks.append(data)
            self._bytes += len(data)
            if self._bytes > BODY_HIGH_WATER_BYTES and not self._paused:
                self._paused = True
                self._pause()
            self._wake()

    def end(self):
        with self._condition:
            self.complete = True
            self._wake()

    def fail(self):
        """The client has gone. What came before it can still be read."""
        with self._condition:
            if not self.complete:
                self.failed = True
            self._wake()

    def discard(self):
        with self._condition:
            self.discarded = True
            self._chunks.clear()
            self._bytes = 0
            resume = self._take_pause()
        if resume:
            self._resume()

    def _wake(self):
        self._condition.notify_all()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        self._waiter = None

    def _take_pause(self):
        if self._paused and self._bytes <= BODY_HIGH_WATER_BYTES // 2:
            self._paused = False
            return True
        return False

    def _take(self):
        """(a chunk, b'' at the end, or None where it must be waited for; whether the socket is to be resumed)"""
        if self._chunks:
            chunk = self._chunks.popleft()
            self._bytes -= len(chunk)
            return chunk, self._take_pause()
        if self.failed:
            raise ClientGone()
        return (b"" if self.complete else None), False

    async def read(self):
        """The next piece; b'' at the end. Raises ClientGone."""
        while True:
            with self._condition:
                chunk, resume = self._take()
                if chunk is None:
                    waiter = self._waiter = self._loop.create_future()
            if resume:
                self._resume()
            if chunk is not None:
                return chunk
            await waiter

    async def read_all(self, limit=None):
        """The whole body, or None where it is over the limit."""
        pieces = []
        total = 0
        while True:
            piece = await self.read()
            if not piece:
                return pieces[0] if len(pieces) == 1 else b"".join(pieces)
            total += len(piece)
            if limit is not None and total > limit:
                return None
            pieces.append(piece)

    def read_blocking(self):
        """As read(), on a thread."""
        with self._condition:
            while True:
                chunk, resume = self._take()
                if chunk is not None:
                    break
                self._condition.wait()
        if resume:
            self._loop.call_soon_threadsafe(self._resume)
        return chunk
