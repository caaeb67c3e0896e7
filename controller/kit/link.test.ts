/** Both ends of a link over TCP, with real sockets and certificates: who is let in, who is not, and what a peer that is gone costs. */
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { LinkFiles, type NetworkKind, newToken } from '../../test/helpers/link-files.ts';
import { range, waitFor } from '../../test/helpers/wait.ts';
import { systemClock } from './clock.ts';
import { type DialTiming, endLines, LineDialer } from './line-client.ts';
import { type LineConnection, LineServer, type LineServerOptions } from './line-server.ts';
import type { TcpTarget } from './link-endpoint.ts';
import { MAX_STRIKES } from './link-gate.ts';
import { greetingLine } from './link-greeting.ts';
import { type Log, silentLog } from './log.ts';

const QUICK = { refuseAfterMs: 20, logEveryMs: 100, followEveryMs: 10 };
/** So long that nothing of it happens in a test that is not about it. */
const PATIENT = { heartbeatMs: 60_000, silenceMs: 600_000 };

let folder: string;
let files: LinkFiles;
const closers: (() => unknown)[] = [];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'fn-tcp-'));
  files = new LinkFiles(folder);
});
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close();
  rmSync(folder, { recursive: true, force: true });
});

/** A server that keeps what it hears and answers each line with `echo LINE`. */
class Echo {
  readonly heard: string[] = [];
  readonly connections: LineConnection[] = [];
  readonly logged: object[] = [];
  closed = 0;
  readonly server: LineServer;

  constructor(kind: NetworkKind, options: Partial<LineServerOptions> = {}) {
    const warn = (fields: object) => void this.logged.push(fields);
    const log: Log = { ...silentLog, warn, error: warn };
    this.server = new LineServer({
      listen: [files.listen(kind)],
      peer: 'a test',
      maxConnections: 100,
      maxLineBytes: 1_000_000,
      maxUnsentBytes: 1_000_000,
      helloTimeoutMs: 10_000,
      log,
      ...options,
      timing: { ...QUICK, ...PATIENT, ...options.timing },
      onConnection: (connection) => {
        this.connections.push(connection);
        return {
          onLine: (line) => {
            connection.greeted('it');
            this.heard.push(line);
            connection.send({ echo: line });
          },
          onClose: () => void (this.closed += 1),
        };
      },
    });
  }

  get port(): number {
    return this.server.tcpAddress!.port;
  }

  async start(): Promise<this> {
    closers.push(() => this.server.close());
    await this.server.start();
    return this;
  }
}

/** One dial, and what came of it. */
class Dialled {
  readonly lines: string[] = [];
  reason: string | null | undefined;
  readonly socket: Socket;

  constructor(dialer: LineDialer, first = '"hello"') {
    closers.push(() => this.socket.destroy());
    this.socket = dialer.dial({
      maxLineBytes: 1_000_000,
      onConnect: (socket) => socket.write(`${first}\n`),
      onLine: (line) => this.lines.push(line),
      onClose: (reason) => (this.reason = reason),
    });
  }

  async answered(): Promise<this> {
    await waitFor('an answer', () => this.lines.length > 0 || this.reason !== undefined, { everyMs: 2 });
    return this;
  }

  async closed(): Promise<string | null> {
    await waitFor('the end', () => this.reason !== undefined, { everyMs: 2 });
    return this.reason!;
  }
}

const dialer = (target: TcpTarget, timing: Partial<DialTiming> = {}) => new LineDialer(target, { ...PATIENT, ...timing });

/** A peer that says what it is told to. */
async function raw(kind: NetworkKind, port: number, text: string | Buffer = ''): Promise<{ socket: Socket; said: () => string }> {
  const socket = kind === 'tls' ? connectTls({ port, host: '127.0.0.1', rejectUnauthorized: false }) : connect({ port, host: '127.0.0.1' });
  closers.push(() => socket.destroy());
  let said = '';
  socket.on('error', () => {});
  socket.on('data', (chunk: Buffer) => (said += chunk.toString()));
  await once(socket, kind === 'tls' ? 'secureConnect' : 'connect');
  socket.write(text);
  return { socket, said: () => said };
}
/** From another address than all else of this test. */
const STRANGER = { host: '127.0.0.1', localAddress: '127.0.0.2' };
function stranger(port: number): Socket {
  const socket = connect({ ...STRANGER, port });
  closers.push(() => socket.destroy());
  return socket.on('error', () => {}).resume();
}
const gone = (socket: Socket) => waitFor('the connection to be closed', () => socket.destroyed, { everyMs: 2 });

describe.each<NetworkKind>(['tcp', 'tls'])('a link over %s', (kind) => {
  it('carries lines both ways once the token was shown, and ends in order', async () => {
    const echo = await new Echo(kind).start();
    const dialled = await new Dialled(dialer(files.target(kind, echo.port))).answered();
    expect(dialled.lines).toEqual(['{"echo":"\\"hello\\""}']);
    expect(echo.connections[0]!.local).toBe(false);
    const large = `"${'x'.repeat(500_000)}"`;
    dialled.socket.write(`${large}\n`);
    await endLines(dialled.socket, systemClock);
    await waitFor('the last line', () => echo.heard.length === 2 && echo.closed === 1, { everyMs: 2 });
    expect(echo.heard).toEqual(['"hello"', large]);
  });

  it.each([
    ['a wrong token', () => greetingLine(newToken())],
    ['the beginning of the right one', () => greetingLine(files.token.slice(0, -1))],
    ['no greeting but a hello', () => '{"type":"hello","gateway":"g"}\n'],
    ['a greeting of another version', () => greetingLine(files.token).replace('"fn":1', '"fn":2')],
    ['a token that is none', () => '{"fn":1,"token":{"length":32}}\n'],
    ['HTTP', () => 'GET / HTTP/1.1\r\nHost: a\r\n\r\n'],
    ['bytes without end', () => Buffer.alloc(100_000, 0x7b)],
    ['a line that is too long, with the token in it', () => `{"fn":1,"x":"${'x'.repeat(1_100)}","token":"${files.token}"}\n`],
  ])('refuses %s: told so after a while, and nothing that follows is heard', async (_name, text) => {
    const echo = await new Echo(kind).start();
    const { socket, said } = await raw(kind, echo.port, Buffer.concat([Buffer.from(text()), Buffer.from('"and more"\n')]));
    await gone(socket);
    expect(said()).toBe('{"fn":1,"refused":"token"}\n');
    expect(echo.heard).toEqual([]);
    expect(echo.connections).toEqual([]);
    const other = await new Dialled(dialer(files.target(kind, echo.port))).answered();
    expect(other.lines).toHaveLength(1);
  });

  it('counts those who are refused, and logs once however many they are', async () => {
    const echo = await new Echo(kind, { timing: { ...QUICK, logEveryMs: 60_000 } }).start();
    const peers = await Promise.all(range(20).map(() => raw(kind, echo.port, greetingLine(newToken()))));
    for (const { socket } of peers) await gone(socket);
    expect(echo.logged).toMatchObject([{ from: '127.0.0.1', why: 'its token is not the one that is expected' }]);
    expect(JSON.stringify(echo.logged)).not.toContain(files.token);
    await echo.server.close();
    expect(echo.logged).toMatchObject([{}, { count: 19 }]);
  });

  it('closes who shows no token in time, with or without a handshake', async () => {
    const echo = await new Echo(kind, { helloTimeoutMs: 50 }).start();
    const silent = connect({ port: echo.port, host: '127.0.0.1' });
    closers.push(() => silent.destroy());
    silent.on('error', () => {});
    const half = await raw(kind, echo.port, '{"fn":1,');
    await gone(half.socket);
    silent.resume();
    await gone(silent);
    expect(echo.connections).toEqual([]);
  });

  it('of those without a token keeps 64 at most, the newest: they keep no gateway out', async () => {
    const echo = await new Echo(kind).start();
    const idle = range(70).map(() => {
      const socket = connect({ port: echo.port, host: '127.0.0.1' });
      closers.push(() => socket.destroy());
      return socket.on('error', () => {}).resume();
    });
    await waitFor('the first to go', () => idle.filter((socket) => socket.destroyed).length >= 6, { everyMs: 2 });
    const dialled = await new Dialled(dialer(files.target(kind, echo.port))).answered();
    expect(dialled.lines).toHaveLength(1);
    expect(idle.filter((socket) => !socket.destroyed).length).toBeGreaterThan(50);
  });

  it('of too many lets go of those from where the most are: another is not the oldest for being slow', async () => {
    const echo = await new Echo(kind).start();
    const slow = connect({ port: echo.port, host: '127.0.0.1' });
    closers.push(() => slow.destroy());
    await once(slow, 'connect');
    const crowd = range(90).map(() => stranger(echo.port));
    await waitFor('the first of the crowd to go', () => crowd.filter((socket) => socket.destroyed).length >= 27, { everyMs: 2 });
    expect(slow.resume().destroyed).toBe(false);
  });

  it('takes nothing more from where nobody shows a token, and all from elsewhere', async () => {
    const echo = await new Echo(kind, { timing: { logEveryMs: 1 } }).start();
    const why = `${MAX_STRIKES} connections from there have not shown a token within 10 s`;
    /** What one from there is told that shows the right token: to be welcome, or nothing. */
    const told = async (): Promise<string> => {
      const socket = kind === 'tls' ? connectTls({ ...STRANGER, port: echo.port, rejectUnauthorized: false }) : stranger(echo.port);
      closers.push(() => socket.destroy());
      let said = '';
      socket.on('error', () => {});
      socket.on('data', (chunk: Buffer) => (said += chunk.toString()));
      socket.write(greetingLine(files.token));
      await waitFor('a word, or none', () => said.endsWith('\n') || socket.destroyed, { everyMs: 2 });
      socket.destroy();
      return said;
    };
    expect(await told()).toBe('{"fn":1}\n');
    // A peer sees its end before the server has counted it, and the count begins anew every 10 s: so there may be need of more.
    const hungUpOn = async (): Promise<boolean> => {
      const strikes = range(MAX_STRIKES).map(() => stranger(echo.port));
      for (const socket of strikes) socket.write('no greeting\n');
      for (const socket of strikes) await gone(socket);
      const before = echo.logged.length;
      const said = await told();
      const logged = JSON.stringify(echo.logged.slice(before)).includes(why);
      return said === '' && logged;
    };
    await waitFor('one with the right token not to be looked at', hungUpOn, { timeoutMs: 30_000 });
    const dialled = await new Dialled(dialer(files.target(kind, echo.port))).answered();
    expect(dialled.lines).toHaveLength(1);
  });

  it('takes no more than there may be, and says so', async () => {
    const echo = await new Echo(kind, { maxConnections: 2 }).start();
    const target = files.target(kind, echo.port);
    const first = await Promise.all(range(2).map(() => new Dialled(dialer(target)).answered()));
    expect(await new Dialled(dialer(target)).closed()).toBeNull();
    expect(echo.logged).toMatchObject([{ connections: 2 }]);
    expect(first.map(({ reason }) => reason)).toEqual([undefined, undefined]);
  });

  it('hears a peer by its heartbeat, in both directions, and gives up one that is frozen', async () => {
    const timing = { heartbeatMs: 20, silenceMs: 2_000 };
    const echo = await new Echo(kind, { timing }).start();
    const target = files.target(kind, echo.port);
    const alive = await new Dialled(dialer(target, timing)).answered();
    // As a process that is frozen: its kernel acknowledges, itself it says nothing.
    const frozen = await raw(kind, echo.port, greetingLine(files.token));
    await gone(frozen.socket);
    expect(frozen.said()).toMatch(/^\{"fn":1\}\n\n+$/);
    expect(echo.logged).toMatchObject([{ error: 'nothing was heard for 2000 ms' }]);
    // Longer than the other was given.
    expect(alive.reason).toBeUndefined();
    expect(alive.lines).toHaveLength(1);
    // And from the other side: a server that takes the token and then says nothing more.
    const stuck = createServer((socket) => void socket.on('error', () => {}).once('data', () => socket.write('{"fn":1}\n')));
    stuck.listen(0, '127.0.0.1');
    await once(stuck, 'listening');
    closers.push(() => stuck.close());
    const { port } = stuck.address() as AddressInfo;
    expect(await new Dialled(dialer(files.target('tcp', port), timing)).closed()).toBe('nothing was heard for 2000 ms');
  });

  it('changes its token without a cut that was not asked for: two lines, then the new one alone', async () => {
    const echo = await new Echo(kind).start();
    const target = files.target(kind, echo.port);
    const old = files.token;
    const before = await new Dialled(dialer(target)).answered();
    const next = newToken();
    files.putTokens(next, old);
    const showsNext = dialer(target);
    await waitFor('the new one to be taken', async () => (await new Dialled(showsNext).answered()).lines.length > 0);
    expect(before.reason).toBeUndefined();
    files.putTokens(next);
    // Who came in with the old one, and still has it, is out.
    await before.closed();
    const { socket } = await raw(kind, echo.port, greetingLine(old));
    await gone(socket);
    expect((await new Dialled(dialer(target)).answered()).lines).toHaveLength(1);
  });

  it('whose server has an older token file is let in with the second token', async () => {
    const echo = await new Echo(kind).start();
    const own = join(folder, 'own');
    writeFileSync(own, `${newToken()}\n${files.token}\n`);
    const both = dialer({ ...files.target(kind, echo.port), tokenFile: own });
    expect(await new Dialled(both).closed()).toMatch(/refused the token: does .* have the one/);
    expect((await new Dialled(both).answered()).lines).toHaveLength(1);
  });

  it('keeps the token that it had while the file is not good', async () => {
    const echo = await new Echo(kind).start();
    const target = files.target(kind, echo.port);
    files.putTokens('short');
    await waitFor('the complaint', () => JSON.stringify(echo.logged).includes('has 5 characters'), { everyMs: 2 });
    expect(await new Dialled(dialer(target)).closed()).toContain('has 5 characters');
    const { said } = await raw(kind, echo.port, greetingLine(files.token));
    await waitFor('to be let in', () => said() === '{"fn":1}\n', { everyMs: 2 });
  });

  it('does not begin without a good token file, and says what is wrong', async () => {
    for (const [text, wrong] of [
      ['', 'is empty'],
      ['x'.repeat(31), 'has 31 characters'],
      [`${'x'.repeat(40)} y`, 'printable ASCII'],
      [range(3).map(newToken).join('\n'), 'has 3 tokens'],
    ] as const) {
      writeFileSync(files.tokenFile, text);
      await expect(new Echo(kind).start()).rejects.toThrow(wrong);
    }
    rmSync(files.tokenFile);
    await expect(new Echo(kind).start()).rejects.toThrow('ENOENT');
  });

  it('waits for a port that is about to become free, and not for ever', async () => {
    const first = await new Echo(kind).start();
    const listen = [files.listen(kind, first.port)];
    await expect(new Echo(kind, { listen, timing: { portWaitMs: 50 } }).start()).rejects.toThrow(
      `127.0.0.1:${first.port} cannot be listened on`,
    );
    const second = new Echo(kind, { listen, timing: { portWaitMs: 15_000 } });
    const starting = second.start();
    await first.server.close();
    await starting;
    expect((await new Dialled(dialer(files.target(kind, second.port))).answered()).lines).toHaveLength(1);
  });
});

describe('a link over TLS', () => {
  const presented = async (port: number): Promise<string> => {
    const socket = connectTls({ port, host: '127.0.0.1', rejectUnauthorized: false });
    closers.push(() => socket.destroy());
    socket.on('error', () => {});
    await once(socket, 'secureConnect');
    expect(socket.getProtocol()).toBe('TLSv1.3');
    const { serialNumber } = socket.getPeerX509Certificate()!;
    socket.destroy();
    return serialNumber;
  };

  it('is dialled only where the certificate is of the authority, and for the name', async () => {
    const echo = await new Echo('tls').start();
    const target = files.target('tls', echo.port);
    expect(await new Dialled(dialer({ ...target, host: '127.0.0.1' })).closed()).toMatch(/not in the cert's list|does not match/);
    expect(await new Dialled(dialer({ ...target, tls: { caFile: null } })).closed()).toMatch(/unable to verify|self-signed|issuer/);
    expect(await new Dialled(dialer({ ...target, tls: { caFile: join(folder, 'none') } })).closed()).toContain('ENOENT');
    expect(echo.connections).toEqual([]);
    expect((await new Dialled(dialer(target)).answered()).lines).toHaveLength(1);
  });

  it('is not spoken with who does not, and shows no token to a server without', async () => {
    const echo = await new Echo('tls').start();
    const plain = await raw('tcp', echo.port, greetingLine(files.token));
    await gone(plain.socket);
    expect(echo.heard).toEqual([]);
    const tcp = await new Echo('tcp').start();
    expect(await new Dialled(dialer(files.target('tls', tcp.port))).closed()).not.toBeNull();
    expect(tcp.connections).toEqual([]);
  });

  it('presents a renewed certificate without a restart; links go on; half of a pair is waited for', async () => {
    const echo = await new Echo('tls').start();
    const before = await new Dialled(dialer(files.target('tls', echo.port))).answered();
    const first = await presented(echo.port);
    // A certificate whose key is still the old one.
    writeFileSync(join(files.tlsDir, 'tls.crt'), new LinkFiles(mkdtempSync(join(folder, 'other-'))).putCertificate('localhost'));
    await waitFor('the complaint', () => JSON.stringify(echo.logged).includes('mismatch'), { everyMs: 2 });
    expect(await presented(echo.port)).toBe(first);
    files.putCertificate('localhost');
    await waitFor('the renewed one', async () => (await presented(echo.port)) !== first, { everyMs: 10 });
    before.socket.write('"still"\n');
    await waitFor('the link to go on', () => before.lines.length === 2, { everyMs: 2 });
  });
});

describe('dialling', () => {
  it('tries the addresses of a name in turn, and begins elsewhere the next time', async () => {
    // Of ::1 and 127.0.0.1 one is listened on alone; the other refuses.
    const echo = await new Echo('tcp').start();
    const again = dialer(files.target('tcp', echo.port));
    for (const _ of range(3)) expect((await new Dialled(again).answered()).lines).toHaveLength(1);
  });

  it('ends when nobody is there, or nobody answers, and says so', async () => {
    const echo = await new Echo('tcp').start();
    const { port } = echo;
    await echo.server.close();
    expect(await new Dialled(dialer(files.target('tcp', port))).closed()).toMatch(/ECONNREFUSED/);
    const unknown = await new Dialled(dialer(files.target('tcp', port, 'nobody.invalid'))).closed();
    expect(unknown).toMatch(/ENOTFOUND|EAI_AGAIN/);
    const mute = createServer((socket) => void socket.on('error', () => {}));
    mute.listen(0, '127.0.0.1');
    await once(mute, 'listening');
    closers.push(() => mute.close());
    const { port: mutePort } = mute.address() as AddressInfo;
    expect(await new Dialled(dialer(files.target('tls', mutePort), { connectTimeoutMs: 50 })).closed()).toBe('no connection within 50 ms');
  });

  it('refuses what answers otherwise', async () => {
    const server = createServer((socket) => void socket.on('error', () => {}).end('SSH-2.0-OpenSSH_9.2\n'));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    closers.push(() => server.close());
    const { port } = server.address() as AddressInfo;
    expect(await new Dialled(dialer(files.target('tcp', port))).closed()).toMatch(/does not speak as a link of fn/);
  });
});
