/** A default function with two parameters gets what Node's http server gives. */
import type { IncomingMessage, ServerResponse } from 'node:http';

export default function handle(request: IncomingMessage, response: ServerResponse): void {
  response.setHeader('content-type', 'text/plain; charset=utf-8');
  response.end(`${request.method} ${request.url} from Node ${process.versions.node}\n`);
}
