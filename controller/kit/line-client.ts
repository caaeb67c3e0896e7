/**
 * The dialling end of a link of lines (kit/line-server.ts is the other): one connection at a time, its lines, and why
 * it ended. Over TCP it shows its token first, sends signs of life and gives up who sends none (heartbeat.ts).
 */
import { readFileSync } from 'node:fs';
import { lookup as resolve, type LookupAddress } from 'node:dns';
import { createConnection, isIP, type LookupFunction, Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import type { Clock } from './clock.ts';
import { HEARTBEAT_MS, type HeartbeatTiming, keepAlive, SILENCE_MS } from './heartbeat.ts';
import { type LinkTarget, showEndpoint, type TcpTarget } from './link-endpoint.ts';
import { greetingLine, refusalOf } from './link-greeting.ts';
import { readTokens } from './link-tokens.ts';
import { LineSplitter } from './ndjson.ts';

/** How long what is still to be sent may take when a link is ended, ms. */
const END_TIMEOUT_MS = 1_000;
/** Until there is a connection over TCP, all addresses of its name and TLS included, ms. */
const CONNECT_TIMEOUT_MS = 5_000;
/** One address of a name may take so long where there is another, ms. */
const ADDRESS_TIMEOUT_MS = 500;
const TCP_KEEP_ALIVE_MS = 10_000;

export interface LineHandlers {
  maxLineBytes: number;
  /** What is written now is the first that the other end reads after the token. */
  onConnect: (socket: Socket) => void;
  /** What it throws ends the connection, and is its reason. */
  onLine: (line: string) => void;
  /** Once, however it ended; `null`: the other end closed it. */
  onClose: (reason: string | null) => void;
}

export interface DialTiming extends HeartbeatTiming {
  connectTimeoutMs: number;
}

const TIMING: DialTiming = { connectTimeoutMs: CONNECT_TIMEOUT_MS, heartbeatMs: HEARTBEAT_MS, silenceMs: SILENCE_MS };

/** Dials one place, again and again. */
export class LineDialer {
  readonly target: LinkTarget;
  readonly #timing: DialTiming;
  /** Of the token file: it goes on where one was refused. */
  #token = 0;
  /** Of the addresses of a name, where to begin: one that answers nothing is not tried first for ever. */
  #address = 0;

  constructor(target: LinkTarget, timing: Partial<DialTiming> = {}) {
    this.target = target;
    this.#timing = { ...TIMING, ...timing };
  }

  /** Never throws: what is wrong is the reason of its close. */
  dial(handlers: LineHandlers): Socket {
    return this.target.kind === 'unix' ? dialUnix(this.target.path, handlers) : this.#dialTcp(this.target, handlers);
  }

  #dialTcp(target: TcpTarget, handlers: LineHandlers): Socket {
    let socket: Socket;
    let token: string;
    try {
      const tokens = readTokens(target.tokenFile);
      token = tokens[this.#token % tokens.length]!;
      socket = this.#connect(target);
    } catch (error) {
      // Whoever dials gets its end as of any connection: later.
      socket = new Socket();
      follow(socket, handlers);
      return socket.destroy(error instanceof Error ? error : new Error(String(error)));
    }
    const { connectTimeoutMs } = this.#timing;
    const timer = setTimeout(() => socket.destroy(new Error(`no connection within ${connectTimeoutMs} ms`)), connectTimeoutMs);
    timer.unref();
    socket.once('close', () => clearTimeout(timer));
    socket.once(target.tls === null ? 'connect' : 'secureConnect', () => {
      clearTimeout(timer);
      keepAlive(socket, this.#timing);
      socket.cork();
      socket.write(greetingLine(token));
      handlers.onConnect(socket);
      socket.uncork();
    });
    let greeted = false;
    follow(socket, {
      ...handlers,
      onLine: (line) => {
        if (greeted) {
          handlers.onLine(line);
          return;
        }
        const refusal = refusalOf(line);
        if (refusal !== null) {
          this.#token += 1;
          throw new Error(`${showEndpoint(target)} refused the ${refusal}: does ${target.tokenFile} have the one that it expects?`);
        }
        greeted = true;
      },
    });
    return socket;
  }

  #connect({ host, port, tls }: TcpTarget): Socket {
    const first = this.#address++;
    const options = {
      host,
      port,
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: TCP_KEEP_ALIVE_MS,
      // All of its addresses are tried, one after the other.
      autoSelectFamily: true,
      autoSelectFamilyAttemptTimeout: ADDRESS_TIMEOUT_MS,
      lookup: lookupFrom(first),
    };
    if (tls === null) return createConnection(options);
    const ca = tls.caFile === null ? {} : { ca: readFileSync(tls.caFile) };
    return connectTls({ ...options, ...ca, ...(isIP(host) === 0 ? { servername: host } : {}), minVersion: 'TLSv1.2' });
  }
}

/** Resolves as ever, and begins with the `first` of the addresses, modulo their number. */
const lookupFrom =
  (first: number): LookupFunction =>
  (hostname, options, callback) => {
    resolve(hostname, { ...options, all: true }, (error: NodeJS.ErrnoException | null, addresses: LookupAddress[]) => {
      if (error !== null || addresses.length === 0) {
        callback(error ?? new Error(`${hostname} has no address`), []);
        return;
      }
      const from = first % addresses.length;
      const turned = [...addresses.slice(from), ...addresses.slice(0, from)];
      if (options.all === true) callback(null, turned);
      else callback(null, turned[0]!.address, turned[0]!.family);
    });
  };

function dialUnix(path: string, handlers: LineHandlers): Socket {
  const socket = createConnection({ path });
  socket.on('connect', () => handlers.onConnect(socket));
  follow(socket, handlers);
  return socket;
}

function follow(socket: Socket, { maxLineBytes, onLine, onClose }: Omit<LineHandlers, 'onConnect'>): void {
  const splitter = new LineSplitter(maxLineBytes);
  let reason: string | null = null;
  socket.on('data', (chunk) => {
    try {
      for (const line of splitter.push(chunk)) {
        if (socket.destroyed) return;
        onLine(line);
      }
    } catch (error) {
      socket.destroy(error instanceof Error ? error : new Error(String(error)));
    }
  });
  socket.on('error', (error) => {
    reason = error.message;
  });
  socket.on('close', () => onClose(reason));
}

/** Sends what is still to be sent, and ends the connection; resolves when it is closed. */
export async function endLines(socket: Socket | null, clock: Clock): Promise<void> {
  if (socket === null || socket.destroyed) return;
  await new Promise<void>((done) => {
    const giveUp = clock.after(END_TIMEOUT_MS, () => socket.destroy());
    socket.once('close', () => {
      giveUp();
      done();
    });
    socket.destroySoon();
  });
}
