/** Stands in for gateway/main.ts under a supervisor: answers every request with its pid, on the socket for TLS without it. */
import { createServer } from 'node:http';

const { FN_LISTEN_FD, FN_TLS_LISTEN_FD } = process.env;
const servers = [FN_LISTEN_FD, FN_TLS_LISTEN_FD]
  .filter((fd) => fd !== undefined)
  .map((fd) => createServer((_, response) => response.end(String(process.pid))).listen({ fd: Number(fd) }));
process.on('SIGTERM', () => {
  for (const server of servers) {
    server.close();
    server.closeAllConnections();
  }
});
