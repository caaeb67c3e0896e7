/** What functions have used: CPU, memory, calls. */
import { type StatsList, StatsQuery } from '#contract/stats.ts';
import { covers } from '#contract/tenancy.ts';
import { type ApiDependencies, Router } from './env.ts';
import { checkedPath, checkedQuery } from './input.ts';
import { FunctionPath, NamespacePath, response, responses } from './schemas.ts';

export function statsRoutes(dependencies: ApiDependencies): Router {
  const { platform } = dependencies;
  return new Router(dependencies)
    .add(
      {
        method: 'get',
        path: '/v1/stats',
        operationId: 'listStats',
        summary: 'What the functions of all namespaces of the caller have used, or those of one: CPU, memory, calls',
        access: { namespace: 'filtered', scope: 'read' },
        request: { query: StatsQuery },
        responses: responses({ 200: response('By namespace, then name.', 'StatsList') }),
      },
      async (c) => {
        const { namespace } = checkedQuery(c, StatsQuery);
        const { namespaces } = c.get('principal');
        const all = namespaces === '*' && namespace === undefined;
        // Of others nothing is worked out either: a tenant would else have the controller do so as often as it asks.
        const own = namespace === undefined ? (namespaces === '*' ? [] : namespaces) : covers(namespaces, namespace) ? [namespace] : [];
        const list = await platform.stats(all ? undefined : own);
        // The pool is nobody's: what it takes says what the others do.
        return c.json({ ...list, pool: all ? list.pool : null } satisfies StatsList);
      },
    )
    .add(
      {
        method: 'get',
        path: '/v1/namespaces/{namespace}/stats',
        operationId: 'listNamespaceStats',
        summary: 'What the functions of a namespace have used',
        access: { namespace: 'path', scope: 'read', absent: 'namespace' },
        request: { params: NamespacePath },
        responses: responses({ 200: response('By name.', 'StatsList') }),
      },
      async (c) => {
        const { namespace } = checkedPath(c, NamespacePath);
        return c.json({ ...(await platform.stats([namespace])), pool: null } satisfies StatsList);
      },
    )
    .add(
      {
        method: 'get',
        path: '/v1/namespaces/{namespace}/functions/{name}/stats',
        operationId: 'getStats',
        summary: 'What a function has used, in all and by revision; also one that was deleted not long ago',
        access: { namespace: 'path', scope: 'read', absent: 'function' },
        request: { params: FunctionPath },
        responses: responses({ 200: response('Its totals.', 'FunctionStats') }),
      },
      async (c) => {
        const { namespace, name } = checkedPath(c, FunctionPath);
        return c.json(await platform.functionStats(namespace, name));
      },
    );
}
