/** The internal listener: /metrics, for who scrapes it, and nothing else. Never on the public port. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { Log } from './log.ts';

/** A process that takes over from another waits for its port this often, ms. */
const LISTEN_AGAIN_MS = 1_000;
const REQUEST_TIMEOUT_MS = 10_000;
const MAX_CONNECTIONS = 32;

/** Serves it, now or when the address becomes free: that it is taken is told, and no reason not to serve functions. */
export function serveMetrics(
  { host, port }: { host: string; port: number },
  scrape: (request: IncomingMessage, response: ServerResponse) => void,
  log: Log,
): { close(): void } {
  const server = createServer({ requestTimeout: REQUEST_TIMEOUT_MS, headersTimeout: REQUEST_TIMEOUT_MS }, (request, response) => {
    if (request.method !== 'GET' && request.method !== 'HEAD') response.writeHead(405, { allow: 'GET, HEAD' }).end();
    else if (request.url !== '/metrics') response.writeHead(404, { 'content-type': 'text/plain' }).end('metrics are at /metrics\n');
    else scrape(request, response);
  });
  server.maxConnections = MAX_CONNECTIONS;
  let timer: NodeJS.Timeout | null = null;
  let told = false;
  let closed = false;
  const listen = () => {
    if (!closed) server.listen(port, host);
  };
  server.on('listening', () => {
    const address = server.address();
    log.info({ address }, 'metrics are served');
    // A scrape that is under way must not keep a process that is to end.
    server.unref();
  });
  server.on('error', (error) => {
    if (!told) log.warn({ host, port, error: error.message }, 'metrics cannot be served yet; trying on');
    told = true;
    timer = setTimeout(listen, LISTEN_AGAIN_MS).unref();
  });
  listen();
  return {
    close() {
      closed = true;
      if (timer !== null) clearTimeout(timer);
      server.close();
      server.closeAllConnections();
    },
  };
}
