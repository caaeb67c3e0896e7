/** What became of requests to functions. */
import { z } from 'zod';
import { CallQuery } from '#contract/call.ts';
import { Namespace } from '#contract/names.ts';
import { type ApiDependencies, Router } from './env.ts';
import { checkedPath, checkedQuery } from './input.ts';
import { FunctionPath, response, responses } from './schemas.ts';

/** As gateways accept an x-request-id: it may be the client's own. */
const CallPath = z.object({ namespace: Namespace, id: z.string().regex(/^[\u0021-\u007e]{1,200}$/, 'an id is 1–200 visible characters') });

export function callRoutes(dependencies: ApiDependencies): Router {
  const { platform } = dependencies;
  const router = new Router(dependencies).add(
    {
      method: 'get',
      path: '/v1/namespaces/{namespace}/calls/{id}',
      operationId: 'explainCall',
      summary: 'One request to a function, explained: its phases, its instance, its log lines, who was at fault and what to do',
      access: { namespace: 'path', scope: 'read', absent: 'call' },
      request: { params: CallPath },
      responses: responses({ 200: response('The explanation.', 'Why') }),
    },
    async (c) => {
      const { namespace, id } = checkedPath(c, CallPath);
      return c.json(await platform.why(namespace, id));
    },
  );
  return router.add(
    {
      method: 'get',
      path: '/v1/namespaces/{namespace}/functions/{name}/calls',
      operationId: 'listCalls',
      summary: 'Calls of a function, the newest first: all that failed, were slow or waited for a start, and a sample of the others',
      access: { namespace: 'path', scope: 'read', absent: 'function' },
      request: { params: FunctionPath, query: CallQuery },
      responses: responses({ 200: response('Their records.', 'CallList') }),
    },
    async (c) => {
      const { namespace, name } = checkedPath(c, FunctionPath);
      return c.json(await platform.listCalls(namespace, name, checkedQuery(c, CallQuery)));
    },
  );
}
