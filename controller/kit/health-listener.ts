/** Probes: what whoever watches over a process asks, on an address of their own, and nothing else. See docs/kubernetes.md. */
import { createServer } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import type { Log } from './log.ts';

/** An address that is taken, by a process that is about to end, is tried again after this, ms. */
const LISTEN_AGAIN_MS = 1_000;
const REQUEST_TIMEOUT_MS = 5_000;
/** Beyond it the one that came first is closed: who says nothing keeps no probe out, for whom a process might be killed. */
const MAX_CONNECTIONS = 32;
const MAX_HEADER_BYTES = 8_192;

/** By path, `/readyz`: null where all is well, else what is not, in some words. Must be quick, and not throw. */
export type HealthChecks = Record<string, () => string | null>;

export interface HealthListener {
  /** Where it listens; null: not yet. */
  readonly address: AddressInfo | null;
  /** Idempotent. */
  close(): void;
}

/** Answers 200, or 503 and why. Now or when the address becomes free: that it is taken is told, and no reason to end. */
export function serveHealth({ host, port }: { host: string; port: number }, checks: HealthChecks, log: Log): HealthListener {
  const paths = new Map(Object.entries(checks));
  const limits = { requestTimeout: REQUEST_TIMEOUT_MS, headersTimeout: REQUEST_TIMEOUT_MS, maxHeaderSize: MAX_HEADER_BYTES };
  const server = createServer({ ...limits, connectionsCheckingInterval: REQUEST_TIMEOUT_MS }, (request, response) => {
    // Each probe dials anew; one that is kept open would count against the few that there may be.
    response.shouldKeepAlive = false;
    const say = (status: number, text: string) => {
      response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8', 'cache-control': 'no-store' }).end(`${text}\n`);
    };
    const check = paths.get((request.url ?? '').replace(/\?.*$/s, ''));
    if (check === undefined) {
      say(404, `there is ${[...paths.keys()].join(', ')}`);
    } else if (request.method !== 'GET' && request.method !== 'HEAD') {
      response.setHeader('allow', 'GET, HEAD');
      say(405, 'this can only be read');
    } else {
      const fault = check();
      say(fault === null ? 200 : 503, fault ?? 'ok');
    }
  });
  const open = new Set<Socket>();
  server.on('connection', (socket) => {
    open.add(socket);
    socket.once('close', () => open.delete(socket));
    const [first] = open;
    if (open.size > MAX_CONNECTIONS) first?.destroy();
  });
  let timer: NodeJS.Timeout | null = null;
  let told = false;
  let closed = false;
  const listen = () => {
    if (!closed) server.listen(port, host);
  };
  server.on('listening', () => {
    log.info({ address: server.address() }, 'probes are answered');
    // Nobody's question keeps a process that has nothing else to do.
    server.unref();
  });
  server.on('error', (error) => {
    if (!told) log.warn({ host, port, error: error.message }, 'probes cannot be answered yet; trying on');
    told = true;
    timer = setTimeout(listen, LISTEN_AGAIN_MS).unref();
  });
  listen();
  return {
    get address() {
      const address = server.address();
      return typeof address === 'string' ? null : address;
    },
    close() {
      closed = true;
      if (timer !== null) clearTimeout(timer);
      server.close();
      server.closeAllConnections();
    },
  };
}
