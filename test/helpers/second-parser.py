"""What h11 makes of bytes, for test/helpers/second-parser.ts: a line of base64 in, a line of JSON out.

h11 shares nothing with llhttp, the parser that Node has: it is Python, and written from the RFC.
Two things are made right before h11 sees them, which it refuses and a server may take: empty lines before a
request line (RFC 9112, 2.2), and more than one space in it (RFC 9112, 3).
"""
import base64
import json
import re
import sys

import h11

LIMIT = 256 * 1024
SPACES = re.compile(rb"\A([A-Z]+) +([^ \r\n]+) +(HTTP/[0-9.]+\r\n)")


def answered(connection):
    """Goes on to the next request of the connection; False where there is none."""
    if connection.our_state is h11.SEND_RESPONSE:
        connection.send(h11.Response(status_code=404, headers=[("content-length", "0")]))
        connection.send(h11.EndOfMessage())
    if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
        return False
    connection.start_next_cycle()
    return True


def fresh(rest):
    """A connection at the beginning of a request, with these bytes."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=LIMIT)
    rest = SPACES.sub(rb"\1 \2 \3", rest.lstrip(b"\r\n"))
    if rest:
        connection.receive_data(rest)
    return connection


def read(data):
    requests = []
    request = None
    connection = fresh(data)
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                request = {
                    "method": event.method.decode("latin1"),
                    "target": event.target.decode("latin1"),
                    "version": event.http_version.decode("latin1"),
                    "headers": [[n.decode("latin1"), v.decode("latin1")] for n, v in event.headers],
                    "body": b"",
                }
            elif isinstance(event, h11.Data):
                request["body"] += event.data
            elif isinstance(event, h11.EndOfMessage):
                requests.append({**request, "body": base64.b64encode(request["body"]).decode()})
                request = None
                rest, _ = connection.trailing_data
                if not answered(connection):
                    # The client asked for the end of the connection: what follows is not read.
                    return {"requests": requests, "end": "closed"}
                connection = fresh(rest)
            elif event is h11.PAUSED:
                if not answered(connection):
                    return {"requests": requests, "end": "paused"}
            elif event is h11.NEED_DATA:
                partial = request is not None or bool(connection.trailing_data[0])
                return {"requests": requests, "end": "partial" if partial else "clean"}
            else:
                return {"requests": requests, "end": "closed"}
    except h11.RemoteProtocolError as error:
        return {"requests": requests, "end": "refused", "why": str(error)}


print(json.dumps({"version": h11.__version__}), flush=True)
for line in sys.stdin:
    print(json.dumps(read(base64.b64decode(line))), flush=True)
