/** Stands in for gateway/main.ts under a supervisor: answers every request with its pid. */
import { createServer } from 'node:http';

const server = createServer((_, response) => response.end(String(process.pid)));
server.listen({ fd: Number(process.env.FN_LISTEN_FD) });
process.on('SIGTERM', () => {
  server.close(() => process.exit(0));
  server.closeIdleConnections();
});
