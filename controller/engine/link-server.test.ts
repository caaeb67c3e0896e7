import { once } from 'node:events';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { MAX_GATEWAY_LINE_BYTES } from '#contract/link.ts';
import { greetingLine, welcomeLine } from '#kit/link-greeting.ts';
import { silentLog, type Log } from '#kit/log.ts';
import { LinkFiles } from '../../test/helpers/link-files.ts';
import { waitFor } from '../../test/helpers/wait.ts';
import { LinkServer, type Hello, type Link } from './link-server.ts';

const HELLO = '{"type":"hello","gateway":"g","boot":"b","pid":1,"term":0,"held":[]}\n';
/** How gateways dial. */
type Kind = 'unix' | 'tcp' | 'tls';
let kind: Kind = 'unix';
let files: LinkFiles;
let folder: string;
let server: LinkServer;
let path: string;
let links: Link[];
let said: string[];
let closed: Link[];
const sockets: Socket[] = [];

async function listen(limits = { maxUnsentBytes: 1024 * 1024, helloTimeoutMs: 60_000 }, log: Log = silentLog): Promise<void> {
  server = new LinkServer({
    path,
    gid: null,
    tcp: kind === 'unix' ? null : files.listen(kind),
    term: 3,
    log,
    limits,
    events: {
      onHello: (link: Link, hello: Hello) => {
        links.push(link);
        link.send({ type: 'welcome', keep: [], drop: [], version: hello.term, routes: [] });
      },
      onMessage: (_link, message) => said.push(message.type),
      onClose: (link) => closed.push(link),
    },
  });
  await server.start();
}

/** Over the network it has shown its token, and was let in. */
async function dial(): Promise<Socket> {
  const { port } = server.tcpAddress ?? { port: 0 };
  const to = { port, host: '127.0.0.1' };
  const socket = kind === 'unix' ? connect(path) : kind === 'tcp' ? connect(to) : connectTls({ ...to, rejectUnauthorized: false });
  sockets.push(socket);
  socket.on('error', () => {});
  await once(socket, kind === 'tls' ? 'secureConnect' : 'connect');
  if (kind === 'unix') return socket;
  socket.write(greetingLine(files.token));
  const [answer] = (await once(socket, 'data')) as [Buffer];
  expect(answer.toString()).toBe(welcomeLine());
  return socket;
}

const drainedOrClosed = (socket: Socket) =>
  new Promise<void>((resolve) => {
    socket.once('drain', resolve);
    socket.once('close', () => resolve());
  });
const ended = (socket: Socket) =>
  socket.closed ? Promise.resolve() : new Promise<void>((resolve) => void socket.resume().once('close', () => resolve()));

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'fn-link-'));
  path = join(folder, 'link', 's');
  files = new LinkFiles(folder);
  [links, said, closed] = [[], [], []];
});
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  await server.close();
  await rm(folder, { recursive: true, force: true });
});

describe('the link’s socket', () => {
  beforeAll(() => {
    kind = 'unix';
  });

  it('lets only the owner in, and replaces a socket that is left over', async () => {
    await listen();
    const first = server;
    await listen();
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    expect((await stat(join(folder, 'link'))).mode & 0o777).toBe(0o700);
    const socket = await dial();
    socket.write(HELLO);
    const [data] = (await once(socket, 'data')) as [Buffer];
    expect(JSON.parse(data.toString())).toMatchObject({ type: 'welcome', term: 3 });
    await first.close();
  });
});

describe.each<Kind>(['unix', 'tcp', 'tls'])('the link’s server, dialled over %s', (over) => {
  beforeAll(() => {
    kind = over;
  });

  it('knows the process of a gateway by its number where it is of this host alone', async () => {
    await listen();
    (await dial()).write(HELLO);
    await waitFor('hello', () => links.length === 1, { everyMs: 5 });
    expect(links[0]!.pid).toBe(kind === 'unix' ? 1 : null);
  });

  it('hands on what comes in pieces or many at once', async () => {
    await listen();
    const socket = await dial();
    for (const piece of `${HELLO}{"type":"routed","version":1}\n{"type":"release","lease":"l-0123456789abcdef"}\n`.match(/.{1,17}|\n/gs)!)
      socket.write(piece);
    await waitFor('messages', () => said.length === 2, { everyMs: 5 });
    expect(said).toEqual(['routed', 'release']);
  });

  it.each([
    ['not JSON', 'GET / HTTP/1.1\n'],
    ['JSON of no message', '{"type":"kill"}\n'],
    ['a message with a wrong field', `${HELLO}{"type":"release","lease":"../../x"}\n`],
    ['hello with more than there can be', HELLO.replace('[]', `[${'1,'.repeat(1_000_000)}1]`)],
    ['something before hello', '{"type":"routed","version":1}\n'],
    ['a second hello', `${HELLO}${HELLO}`],
    ['hello of a term that is to come', HELLO.replace('"term":0', '"term":4')],
  ])('cuts off whoever says %s, and nobody else', async (_name, text) => {
    await listen();
    const good = await dial();
    good.write(HELLO.replace('"g"', '"good"'));
    await waitFor('the good one', () => links.length > 0, { everyMs: 5 });
    const bad = await dial();
    bad.write(`${text}{"type":"routed","version":1}\n`);
    await ended(bad);
    expect(said).toEqual([]);
    good.write('{"type":"routed","version":2}\n');
    await waitFor('the good one still', () => said.length === 1, { everyMs: 5 });
    expect(closed.map((link) => link.key)).not.toContain('good/b');
  });

  it('says little about much that is wrong', async () => {
    const logged: object[] = [];
    await listen(undefined, { ...silentLog, error: (fields: object) => logged.push(fields) });
    const socket = await dial();
    socket.write(HELLO.replace('[]', `[${'1,'.repeat(9_000)}1]`));
    await ended(socket);
    expect(logged).toHaveLength(1);
    expect(JSON.stringify(logged).length).toBeLessThan(1_000);
  });

  it('cuts off a line without end', async () => {
    await listen();
    const socket = await dial();
    const chunk = Buffer.alloc(1024 * 1024, 'x');
    for (let sent = 0; sent <= MAX_GATEWAY_LINE_BYTES && !socket.destroyed; sent += chunk.length) {
      if (!socket.write(chunk)) await drainedOrClosed(socket);
    }
    await ended(socket);
    expect(said).toEqual([]);
  });

  it('cuts off whoever does not say hello', async () => {
    await listen({ maxUnsentBytes: 1_000, helloTimeoutMs: 100 });
    await ended(await dial());
    expect(links).toEqual([]);
    expect(closed).toEqual([]);
  });

  it('cuts off whoever does not read, and is not held up by it', async () => {
    await listen({ maxUnsentBytes: 1024 * 1024, helloTimeoutMs: 60_000 });
    const socket = await dial();
    socket.pause();
    socket.write(HELLO);
    await waitFor('hello', () => links.length === 1, { everyMs: 5 });
    const detail = 'x'.repeat(10_000);
    for (let n = 0; n < 10_000; n += 1) links[0]!.send({ type: 'gone', instance: 'i-aaaaaaaaaaaa', cause: 'exit', detail });
    await waitFor('it to be cut off', () => closed.length === 1, { everyMs: 5 });
    expect(() => links[0]!.send({ type: 'clear', instance: 'i-aaaaaaaaaaaa' })).not.toThrow();
  });
});
