/** What became of one request to a function. */
import { z } from 'zod';
import { Namespace } from '#contract/names.ts';
import { type ApiDependencies, Router } from './env.ts';
import { checkedPath } from './input.ts';
import { response, responses } from './schemas.ts';

/** As gateways accept an x-request-id: it may be the client's own. */
const CallPath = z.object({ namespace: Namespace, id: z.string().regex(/^[\u0021-\u007e]{1,200}$/, 'an id is 1–200 visible characters') });

export function callRoutes(dependencies: ApiDependencies): Router {
  const { platform } = dependencies;
  return new Router(dependencies).add(
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
}
