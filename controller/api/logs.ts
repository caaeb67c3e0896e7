/** Logs of a function, as a stream of lines. */
import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';
import { type LogEntry, LogQuery } from '#contract/api.ts';
import { encodeLine } from '#kit/ndjson.ts';
import { type ApiDependencies, Router } from './env.ts';
import { checkedPath, checkedQuery } from './input.ts';
import { FunctionPath, response, responses } from './schemas.ts';
import { clientGone } from './signals.ts';

const NDJSON = 'application/x-ndjson';

export function logRoutes(dependencies: ApiDependencies): Router {
  const { platform, log } = dependencies;
  const router = new Router(dependencies).add(
    {
      method: 'get',
      path: '/v1/namespaces/{namespace}/functions/{name}/logs',
      operationId: 'getLogs',
      summary: 'Log lines, the oldest first; with follow also those to come. A stream that breaks off without its last chunk has failed',
      access: { namespace: 'path', scope: 'read', absent: 'function' },
      request: { params: FunctionPath, query: LogQuery },
      responses: responses({ 200: response('One JSON object a line.', 'LogEntry', NDJSON) }),
    },
    async (c) => {
      const { namespace, name } = checkedPath(c, FunctionPath);
      const { follow = false, ...selection } = checkedQuery(c, LogQuery);
      // While an error can still have a status of its own.
      await platform.describe(namespace, name);
      const headers = { 'content-type': NDJSON, 'x-content-type-options': 'nosniff' };
      if (c.req.method === 'HEAD') return c.body(null, 200, headers);

      const { outgoing, closing, requestId } = c.env;
      const signal = AbortSignal.any([clientGone(c), closing]);
      const entries = platform.logs(namespace, name, { follow, ...selection }, signal)[Symbol.asyncIterator]();
      // One who follows gets the headers at once; for the others the first line may still fail with a status.
      const first = follow ? undefined : await entries.next();
      outgoing.writeHead(200, headers);
      outgoing.flushHeaders();
      try {
        await writeEntries(entries, first, outgoing, signal);
        outgoing.end();
      } catch (error) {
        // The status is out: the missing last chunk tells the client.
        if (!signal.aborted) log.error({ requestId, err: error instanceof Error ? error.stack : error }, 'a log stream broke off');
        outgoing.destroy();
      }
      return RESPONSE_ALREADY_SENT;
    },
  );
  return router.add(
    {
      method: 'get',
      path: '/v1/namespaces/{namespace}/functions/{name}/logs/stats',
      operationId: 'getLogStats',
      summary: 'How much of a log there is, and how many lines were dropped',
      access: { namespace: 'path', scope: 'read', absent: 'function' },
      request: { params: FunctionPath },
      responses: responses({ 200: response('The counters.', 'LogStats') }),
    },
    async (c) => {
      const { namespace, name } = checkedPath(c, FunctionPath);
      return c.json(await platform.logStats(namespace, name));
    },
  );
}

async function writeEntries(
  entries: AsyncIterator<LogEntry>,
  first: IteratorResult<LogEntry> | undefined,
  outgoing: ServerResponse,
  signal: AbortSignal,
): Promise<void> {
  try {
    for (let next = first ?? (await entries.next()); next.done !== true; next = await entries.next()) {
      if (signal.aborted) return;
      // A reader that is slower than the function holds the function's log back, not our memory.
      if (!outgoing.write(encodeLine(next.value))) await once(outgoing, 'drain', { signal });
    }
  } finally {
    await entries.return?.();
  }
}
