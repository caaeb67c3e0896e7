"""WebSocket (RFC 6455) for ASGI apps: the handshake, and frames both ways, checked and bounded."""

import asyncio
import base64
import binascii
import hashlib
import struct
from collections import deque

from .limits import MAX_WEBSOCKET_MESSAGE_BYTES, WEBSOCKET_CLOSE_SECONDS, WEBSOCKET_HIGH_WATER_BYTES, WEBSOCKET_LINGER_SECONDS
from .response import BadResponse, as_bytes

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0, 1, 2, 8, 9, 10

# Close codes that an endpoint may send or be sent (RFC 6455, 7.4, and IANA's list).
_CODES = {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014}


class ProtocolError(Exception):
    """`code`: what the connection is closed with."""

    def __init__(self, code, reason):
        super().__init__(reason)
        self.code = code


def is_upgrade(head):
    """Whether a request asks for a WebSocket."""
    connection = (head.get(b"connection") or "").lower()
    return (head.get(b"upgrade") or "").lower() == "websocket" and "upgrade" in [part.strip() for part in connection.split(",")]


def handshake_error(head):
    """Why a request that asks for a WebSocket cannot have one, or None."""
    if head.method != b"GET" or head.minor != 1 or head.length or head.chunked:
        return "a WebSocket begins with GET in HTTP/1.1, without a body"
    if head.get(b"sec-websocket-version") != "13":
        return "only version 13 of WebSocket is known"
    try:
        key = base64.b64decode(head.get(b"sec-websocket-key") or "", validate=True)
    except (binascii.Error, ValueError):
        key = b""
    return None if len(key) == 16 else "sec-websocket-key is not 16 bytes of base64"


def accept_key(key):
    return base64.b64encode(hashlib.sha1(key + _GUID).digest())


def frame(opcode, data, final=True):
    """A frame as a server sends it: not masked."""
    first = (0x80 if final else 0) | opcode
    length = len(data)
    if length < 126:
        head = struct.pack("!BB", first, length)
    elif length < 65_536:
        head = struct.pack("!BBH", first, 126, length)
    else:
        head = struct.pack("!BBQ", first, 127, length)
    return head + data


def unmask(data, mask):
    """XOR with the mask, over and over: by whole numbers, which is what Python is fast at."""
    length = len(data)
    mask = (mask * (length // 4 + 1))[:length]
    return (int.from_bytes(data, "little") ^ int.from_bytes(mask, "little")).to_bytes(length, "little")


class FrameReader:
    """Takes frames of a client apart: feed() returns (opcode, data) of whole messages and of control frames."""

    def __init__(self, max_message):
        self._max = max_message
        self._buffer = bytearray()
        self._kind = None
        self._pieces = []
        self._bytes = 0

    def feed(self, data):
        """Raises ProtocolError."""
        self._buffer += data
        found = []
        while (one := self._frame()) is not None:
            message = self._take(*one)
            if message is not None:
                found.append(message)
        return found

    def _frame(self):
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        first, second = buffer[0], buffer[1]
        opcode, length, at = first & 0x0F, second & 0x7F, 2
        if first & 0x70:
            raise ProtocolError(1002, "an extension that was not agreed upon")
        if not second & 0x80:
            raise ProtocolError(1002, "a client's frame is not masked")
        if opcode >= 8 and (length > 125 or not first & 0x80):
            raise ProtocolError(1002, "a control frame that is long or in pieces")
        if length >= 126:
            size = 2 if length == 126 else 8
            if len(buffer) < at + size:
                return None
            length = int.from_bytes(buffer[at : at + size], "big")
            at += size
            if length >= 2**63:
                raise ProtocolError(1002, "a length with its first bit set")
        if opcode < 8 and self._bytes + length > self._max:
            raise ProtocolError(1009, f"a message is over {self._max} bytes")
        if len(buffer) < at + 4 + length:
            return None
        mask = bytes(buffer[at : at + 4])
        data = unmask(bytes(buffer[at + 4 : at + 4 + length]), mask)
        del buffer[: at + 4 + length]
        return opcode, bool(first & 0x80), data

    def _take(self, opcode, final, data):
        if opcode in (_CLOSE, _PING, _PONG):
            return opcode, data
        if opcode not in (_CONTINUATION, _TEXT, _BINARY):
            raise ProtocolError(1002, "an opcode that is not known")
        if (opcode == _CONTINUATION) == (self._kind is None):
            raise ProtocolError(1002, "a continuation of nothing, or a message within a message")
        if self._kind is None:
            self._kind = opcode
        self._pieces.append(data)
        self._bytes += len(data)
        if not final:
            return None
        kind, whole = self._kind, b"".join(self._pieces)
        self._kind, self._pieces, self._bytes = None, [], 0
        return kind, whole


def close_code(data):
    """(code, reason) of a close frame's data. Raises ProtocolError."""
    if not data:
        return 1005, ""
    code = int.from_bytes(data[:2], "big")
    if len(data) == 1 or not (code in _CODES or 3000 <= code <= 4999):
        raise ProtocolError(1002, "a close frame with a code that may not be sent")
    try:
        return code, data[2:].decode()
    except UnicodeDecodeError:
        raise ProtocolError(1007, "the reason of a close frame is not UTF-8") from None


class WebSocket:
    """One connection, as ASGI sees it. All on the loop's thread."""

    def __init__(self, request, loop):
        self._request = request
        self._connection = request.connection
        self._loop = loop
        self._reader = FrameReader(MAX_WEBSOCKET_MESSAGE_BYTES)
        self._messages = deque([{"type": "websocket.connect"}])
        self._waiting = 0
        self._sizes = deque()
        self._waiter = None
        # connecting → open → closing (a close frame was sent) → closed; or connecting → denied → closed
        self._state = "connecting"
        self._disconnected = False
        # What is refused is answered, and that is the end of the connection.
        request.response.close_after()
        offered = request.head.get(b"sec-websocket-protocol") or ""
        self.offered = [name.strip() for name in offered.split(",") if name.strip()]

    # What the app does.

    async def receive(self):
        while not self._messages:
            self._waiter = self._loop.create_future()
            await self._waiter
        message = self._messages.popleft()
        if message["type"] == "websocket.receive":
            self._waiting -= self._sizes.popleft()
            if self._waiting <= WEBSOCKET_HIGH_WATER_BYTES // 2:
                self._connection.resume_reading()
        elif message["type"] == "websocket.disconnect":
            self._messages.append(message)  # whoever asks again is told again
        return message

    async def send(self, message):
        kind = message["type"]
        if kind == "websocket.accept" and self._state == "connecting":
            return self._accept(message)
        if kind.startswith("websocket.http.response.") and self._state in ("connecting", "denied"):
            return await self._deny(kind, message)
        if kind == "websocket.close":
            return self._close(int(message.get("code") or 1000), str(message.get("reason") or ""))
        if kind != "websocket.send":
            raise BadResponse(f"the app sent {kind!r} where it does not belong")
        if self._state == "connecting":
            raise BadResponse("websocket.send was sent before websocket.accept")
        if self._state != "open":
            return  # it is closing, or the client went away: receive() says so
        text, data = message.get("text"), message.get("bytes")
        if text is not None:
            self._write(frame(_TEXT, text.encode()))
        else:
            self._write(frame(_BINARY, bytes(data or b"")))
        if not self._connection.writable.is_set():
            try:
                await self._connection.drain()
            except ConnectionError:
                return

    def _accept(self, message):
        response = self._request.response
        if self._connection.lost:
            return
        head = self._request.head
        lines = [
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n",
            b"sec-websocket-accept: %s\r\n" % accept_key(head.values[b"sec-websocket-key"]),
        ]
        subprotocol = message.get("subprotocol")
        headers = list(message.get("headers") or ())
        if subprotocol is not None:
            if subprotocol not in self.offered:
                raise BadResponse(f"the subprotocol {subprotocol!r} was not offered")
            headers.append((b"sec-websocket-protocol", subprotocol))
        for name, value in response.checked(headers):
            if name not in (b"content-length", b"sec-websocket-accept", b"sec-websocket-extensions"):
                lines.append(b"%s: %s\r\n" % (name, value))
        self._state = "open"
        response.upgraded()
        rest = self._connection.upgrade(self)
        self._connection.transport.write(b"".join(lines) + b"\r\n")
        if rest:
            self.data_received(rest)

    async def _deny(self, kind, message):
        """A refusal with an answer of its own: the extension websocket.http.response."""
        response = self._request.response
        if self._connection.lost:
            return
        if kind == "websocket.http.response.start" and self._state == "connecting":
            self._state = "denied"
            response.start(message["status"], list(message.get("headers") or ()))
            return
        if kind != "websocket.http.response.body" or self._state != "denied":
            raise BadResponse(f"the app sent {kind!r} where it does not belong")
        response.write(bytes(message.get("body", b"")))
        if message.get("more_body", False):
            return await response.drain()
        self._state = "closed"
        response.end()

    def _close(self, code, reason):
        if self._state in ("connecting", "denied"):
            # Refused before it began: the standard's answer is 403.
            denied, self._state = self._state == "denied", "closed"
            if denied:
                self._request.response.abort()
            elif not self._request.response.gone:
                self._request.response.send(403, [], b"")
            return self._disconnect(code, reason)
        if self._state != "open":
            return
        self._state = "closing"
        self._write(frame(_CLOSE, struct.pack("!H", code) + as_bytes(reason)[:123]))
        self._loop.call_later(WEBSOCKET_CLOSE_SECONDS, self._connection.abort)

    def fail(self):
        """The app raised."""
        if self._state == "open":
            self._close(1011, "")

    async def finish(self):
        """The app has returned: what it left open is closed."""
        if self._state in ("connecting", "denied"):
            if not self._request.response.gone:
                raise BadResponse("the app returned without websocket.accept or websocket.close")
            return
        if self._state == "open":
            self._close(1000, "")

    # What the connection does.

    def data_received(self, data):
        if self._state == "closed":
            return
        try:
            for opcode, content in self._reader.feed(data):
                self._received(opcode, content)
        except ProtocolError as error:
            if self._state == "open":
                self._write(frame(_CLOSE, struct.pack("!H", error.code) + str(error).encode()[:123]))
            self._end(error.code, str(error))

    def _received(self, opcode, content):
        if self._state == "closed":
            return
        if opcode == _PING:
            if self._state == "open":
                self._write(frame(_PONG, content))
        elif opcode == _CLOSE:
            code, reason = close_code(content)
            if self._state == "open":
                self._write(frame(_CLOSE, content[:2]))
            self._end(code, reason)
        elif opcode != _PONG and self._state == "open":
            if opcode == _TEXT:
                try:
                    message = {"type": "websocket.receive", "text": content.decode()}
                except UnicodeDecodeError:
                    raise ProtocolError(1007, "a text message is not UTF-8") from None
            else:
                message = {"type": "websocket.receive", "bytes": content}
            self._waiting += len(content)
            self._sizes.append(len(content))
            self._push(message)
            if self._waiting > WEBSOCKET_HIGH_WATER_BYTES:
                self._connection.pause_reading()

    def _end(self, code, reason):
        self._state = "closed"
        self._disconnect(code, reason)
        # Closed with bytes of the client's unread, the system would reset the connection, and the close frame
        # be lost: what comes is read, and dropped, until the client has closed its side as well.
        self._connection.finish_writing()
        self._loop.call_later(WEBSOCKET_LINGER_SECONDS, self._connection.close)

    def connection_lost(self):
        self._state = "closed"
        self._disconnect(1006, "")
        self._request.response.lost()

    def _disconnect(self, code, reason):
        if not self._disconnected:
            self._disconnected = True
            self._push({"type": "websocket.disconnect", "code": code, "reason": reason})

    def _push(self, message):
        self._messages.append(message)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _write(self, data):
        if not self._connection.lost:
            self._connection.transport.write(data)
