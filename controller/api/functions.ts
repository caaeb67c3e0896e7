/** Functions: what there is, what each one is, and removing it. */
import { z } from 'zod';
import type { FunctionList } from '#contract/api.ts';
import { Namespace } from '#contract/names.ts';
import { type ApiDependencies, Router } from './env.ts';
import { checkedPath, checkedQuery } from './input.ts';
import { FunctionPath, response, responses } from './schemas.ts';

const ListQuery = z.strictObject({ namespace: Namespace.optional() });

export function functionRoutes({ platform, log }: ApiDependencies): Router {
  return new Router()
    .add(
      {
        method: 'get',
        path: '/v1/functions',
        operationId: 'listFunctions',
        summary: 'All functions, or those of one namespace',
        request: { query: ListQuery },
        responses: responses({ 200: response('By namespace, then name.', 'FunctionList') }),
      },
      async (c) => {
        const { namespace } = checkedQuery(c, ListQuery);
        return c.json({ functions: await platform.list(namespace) } satisfies FunctionList);
      },
    )
    .add(
      {
        method: 'get',
        path: '/v1/namespaces/{namespace}/functions/{name}',
        operationId: 'getFunction',
        summary: 'One function',
        request: { params: FunctionPath },
        responses: responses({ 200: response('The function.', 'FunctionView') }),
      },
      async (c) => {
        const { namespace, name } = checkedPath(c, FunctionPath);
        return c.json(await platform.describe(namespace, name));
      },
    )
    .add(
      {
        method: 'delete',
        path: '/v1/namespaces/{namespace}/functions/{name}',
        operationId: 'deleteFunction',
        summary: 'Remove a function and its revisions; what is in flight ends',
        request: { params: FunctionPath },
        responses: responses({ 204: { description: 'It is routed no more.' } }),
      },
      async (c) => {
        const { namespace, name } = checkedPath(c, FunctionPath);
        await platform.delete(namespace, name);
        log.info({ requestId: c.env.requestId, namespace, name }, 'function deleted');
        return c.body(null, 204);
      },
    );
}
