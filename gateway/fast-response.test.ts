/** Answers of the fast path beside those of Node's ServerResponse: the same bytes, but for the order of headers. */
import { once } from 'node:events';
import { createServer as createHttpServer } from 'node:http';
import { type AddressInfo, connect, createServer, type Server } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { waitFor } from '../test/helpers/wait.ts';
import { type ClientResponse, Outgoing } from './context.ts';
import { FastResponse } from './fast-response.ts';

type Scenario = (outgoing: ClientResponse) => void;

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close();
});

async function listen(server: Server): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  closers.push(() => new Promise((resolve) => server.close(resolve)));
  return (server.address() as AddressInfo).port;
}

const KEEP_ALIVE = 'Connection: keep-alive\r\nKeep-Alive: timeout=65\r\n';

interface Told {
  said: string;
  ended: boolean;
  /** Whether the connection is to be kept; null: its end was not told. */
  kept: boolean | null;
}

/** What a client gets that asks by `method`, until nothing more comes. */
async function ask(port: number, method: string, told: Told): Promise<Told> {
  const socket = connect({ port, host: '127.0.0.1' });
  closers.push(() => socket.destroy());
  socket.on('error', () => {});
  socket.on('data', (chunk: Buffer) => (told.said += chunk.toString('latin1')));
  socket.on('end', () => (told.ended = true));
  socket.write(`${method} / HTTP/1.1\r\nHost: a\r\n\r\n`);
  await waitFor('the end of the answer', () => told.kept !== null, { everyMs: 2 });
  let length = -1;
  await waitFor('nothing more', () => length === (length = told.said.length) && (told.kept === true || told.ended), { everyMs: 20 });
  return told;
}

async function byNode(method: string, scenario: Scenario): Promise<Told> {
  const told: Told = { said: '', ended: false, kept: null };
  const server = createHttpServer({ ServerResponse: Outgoing, keepAliveTimeout: 65_000 }, (_incoming, outgoing) => {
    outgoing.watchedBy({ received: true, answered: false, breakOff: () => {}, onClose: () => (told.kept = outgoing.shouldKeepAlive) });
    scenario(outgoing);
  });
  return ask(await listen(server), method, told);
}

async function byFastPath(method: string, scenario: Scenario): Promise<Told> {
  const told: Told = { said: '', ended: false, kept: null };
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => {});
    const onAnswered = (keep: boolean) => {
      told.kept = keep;
      if (!keep) socket.destroySoon();
    };
    socket.once('data', () => scenario(new FastResponse({ socket, keepAliveLines: KEEP_ALIVE, onAnswered }, method === 'HEAD')));
    socket.on('end', () => socket.end());
  });
  return ask(await listen(server), method, told);
}

/** Without what differs for no client: the order of headers, and how their names are written. */
function normal({ said, ended }: Told) {
  const end = said.indexOf('\r\n\r\n');
  const [first, ...lines] = said.slice(0, end).split('\r\n');
  const headers = lines
    .map((line) => line.replace(/^[^:]+/, (name) => name.toLowerCase()))
    .map((line) => line.replace(/^date: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT$/, 'date: now'))
    .toSorted();
  return { first, headers, body: said.slice(end + 4), ended };
}

const big = (length: number): Buffer => Buffer.alloc(length, 'abcdefghij');
const later = (then: () => void): void => void setTimeout(then, 20);

const SCENARIOS: Record<string, Scenario> = {
  'a text with its length': (out) => {
    out.writeHead(200, 'OK', ['content-type', 'text/plain', 'content-length', '5']);
    out.end('h\xe4llo', 'latin1');
  },
  'a text without a length': (out) => {
    out.writeHead(200, 'OK', ['content-type', 'text/plain']);
    out.end('hello', 'latin1');
  },
  'a text of more bytes than characters': (out) => {
    const text = '{"a":"ä€"}';
    out.writeHead(404, 'Not Found', ['content-length', String(Buffer.byteLength(text))]);
    out.end(text);
  },
  'a large buffer with its length': (out) => {
    out.writeHead(200, 'OK', ['content-length', '3000000']);
    out.end(big(3_000_000));
  },
  'large buffers in chunks': (out) => {
    out.writeHead(200, 'OK', []);
    out.write(big(100_000));
    out.write(big(20_000));
    out.end();
  },
  'pieces over several turns': (out) => {
    out.writeHead(200, 'OK', ['x-a', 'b']);
    out.flushHeaders();
    later(() => {
      out.write(Buffer.from('one'));
      out.write(Buffer.from('two'));
      later(() => {
        out.write(Buffer.from('three'));
        out.end();
      });
    });
  },
  'pieces with a length': (out) => {
    out.writeHead(200, 'OK', ['content-length', '6']);
    out.write(Buffer.from('one'));
    later(() => out.end(Buffer.from('two')));
  },
  'an empty piece': (out) => {
    out.writeHead(200, 'OK', []);
    out.write(Buffer.alloc(0));
    out.write(Buffer.from('a'));
    out.end();
  },
  'no body, by its length': (out) => {
    out.writeHead(200, 'OK', ['content-length', '0']);
    out.end();
  },
  'no body, without a length': (out) => {
    out.writeHead(200, 'OK', []);
    out.end();
  },
  'no content': (out) => {
    out.writeHead(204, 'No Content', ['x-a', 'b']);
    out.end();
  },
  'not modified, with a length': (out) => {
    out.writeHead(304, 'Not Modified', ['content-length', '5', 'etag', '"a"']);
    out.end('hello', 'latin1');
  },
  'an end to the connection': (out) => {
    out.writeHead(503, 'Service Unavailable', ['content-length', '5', 'connection', 'close']);
    out.end('later', 'latin1');
  },
  'a connection that is not to be kept': (out) => {
    out.shouldKeepAlive = false;
    out.writeHead(200, 'OK', ['content-length', '5']);
    out.end('hello', 'latin1');
  },
  'a date of its own': (out) => {
    out.writeHead(200, 'OK', ['date', 'Sun, 06 Nov 1994 08:49:37 GMT', 'content-length', '0']);
    out.end();
  },
  'a phrase and a status of its own': (out) => {
    out.writeHead(299, 'Fine, really', ['content-length', '0']);
    out.end();
  },
  'two cookies': (out) => {
    out.writeHead(200, 'OK', ['set-cookie', 'a=1', 'set-cookie', 'b=2', 'content-length', '0']);
    out.end();
  },
  'a second answer where a header of the first is refused': (out) => {
    expect(() => out.writeHead(200, 'OK', ['x-a', 'b\r\nc: d'])).toThrow();
    expect(out.headersSent).toBe(false);
    out.writeHead(502, 'Bad Gateway', ['content-length', '0']);
    out.end();
  },
};

describe.each(Object.entries(SCENARIOS))('%s', (_what, scenario) => {
  it.each(['GET', 'HEAD'])('is answered to %s as Node answers', async (method) => {
    const [node, fast] = await Promise.all([byNode(method, scenario), byFastPath(method, scenario)]);
    expect(normal(fast)).toEqual(normal(node));
  });
});

describe('an answer of the fast path', () => {
  it.each(['b\r\nc: d', 'b\nc', 'b\rc', 'b\0', '\x7f', '\u0100', '€'])('refuses the value %j', (value) => {
    const response = new FastResponse({ socket: {} as never, keepAliveLines: KEEP_ALIVE, onAnswered: () => {} }, false);
    expect(() => response.writeHead(200, 'OK', ['x-a', value])).toThrow('a character that has no place in a header');
    expect(response.headersSent).toBe(false);
  });

  it.each(['', 'a b', 'a:', 'a\r\nb', 'ä'])('refuses the name %j', (name) => {
    const response = new FastResponse({ socket: {} as never, keepAliveLines: KEEP_ALIVE, onAnswered: () => {} }, false);
    expect(() => response.writeHead(200, 'OK', [name, 'a'])).toThrow('a character that has no place in a header');
  });

  it('tells who does not read, and when he does', async () => {
    let more: boolean | null = null;
    let drained = false;
    let kept: boolean | null = null;
    const server = createServer((socket) => {
      socket.on('error', () => {});
      const response = new FastResponse({ socket, keepAliveLines: KEEP_ALIVE, onAnswered: (keep) => (kept = keep) }, false);
      response.writeHead(200, 'OK', []);
      more = response.write(big(30_000_000));
      response.onDrain(() => {
        drained = true;
        response.end();
      });
    });
    const client = connect({ port: await listen(server), host: '127.0.0.1' });
    closers.push(() => client.destroy());
    await waitFor('the write', () => more !== null, { everyMs: 2 });
    expect({ more, drained, kept }).toEqual({ more: false, drained: false, kept: null });
    let received = 0;
    client.on('data', (chunk: Buffer) => (received += chunk.length));
    await waitFor('the end', () => kept === true, { everyMs: 2 });
    expect(drained).toBe(true);
    await waitFor('all of it', () => received > 30_000_000, { everyMs: 2 });
  });

  it('says nothing more where the connection is gone', async () => {
    let response: FastResponse | null = null;
    let kept: boolean | null = null;
    const server = createServer((socket) => {
      socket.on('error', () => {});
      socket.destroy();
      response = new FastResponse({ socket, keepAliveLines: KEEP_ALIVE, onAnswered: (keep) => (kept = keep) }, false);
    });
    const client = connect({ port: await listen(server), host: '127.0.0.1' });
    client.on('error', () => {});
    await waitFor('the connection', () => response !== null, { everyMs: 2 });
    response!.writeHead(200, 'OK', []);
    expect(response!.write(Buffer.from('a'))).toBe(true);
    response!.flushHeaders();
    response!.end('b', 'latin1');
    expect({ destroyed: response!.destroyed, finished: response!.writableFinished, kept }).toEqual({
      destroyed: true,
      finished: false,
      kept: null,
    });
  });
});
