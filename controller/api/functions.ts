/** Functions: what there is, what each one is, how it is reached, and removing it. */
import { z } from 'zod';
import { type FunctionList, PutAccessRequest, TrafficRequest } from '#contract/api.ts';
import type { FunctionView } from '#contract/function.ts';
import { Namespace } from '#contract/names.ts';
import { covers } from '#contract/tenancy.ts';
import { note } from './audit-trail.ts';
import { type ApiContext, type ApiDependencies, Router } from './env.ts';
import { checkedJson, checkedPath, checkedQuery, ifMatch } from './input.ts';
import { FunctionPath, IfMatch, jsonContent, response, responses } from './schemas.ts';
import { clientGone } from './signals.ts';
import { checkTriggers } from './trigger-faults.ts';

const ListQuery = z.strictObject({ namespace: Namespace.optional() });
const path = '/v1/namespaces/{namespace}/functions/{name}';

/** The ETag is strong: two views with the same one have the same traffic and access. */
const withEtag = (c: ApiContext, view: FunctionView): Response => c.json(view, 200, { etag: `"${view.etag}"` });

export function functionRoutes(dependencies: ApiDependencies): Router {
  const { platform, limits, log } = dependencies;
  return new Router(dependencies)
    .add(
      {
        method: 'get',
        path: '/v1/functions',
        operationId: 'listFunctions',
        summary: 'The functions of all namespaces of the caller, or of one',
        access: { namespace: 'filtered', scope: 'read' },
        request: { query: ListQuery },
        responses: responses({ 200: response('By namespace, then name.', 'FunctionList') }),
      },
      async (c) => {
        const { namespace } = checkedQuery(c, ListQuery);
        const { namespaces } = c.get('principal');
        // Of another tenant's namespace as of one that nobody uses: nothing.
        const functions = namespace !== undefined && !covers(namespaces, namespace) ? [] : await platform.list(namespace);
        return c.json({ functions: functions.filter((view) => covers(namespaces, view.namespace)) } satisfies FunctionList);
      },
    )
    .add(
      {
        method: 'get',
        path,
        operationId: 'getFunction',
        summary: 'One function, with its ETag',
        access: { namespace: 'path', scope: 'read', absent: 'function' },
        request: { params: FunctionPath },
        responses: responses({ 200: response('The function.', 'FunctionView') }),
      },
      async (c) => {
        const { namespace, name } = checkedPath(c, FunctionPath);
        return withEtag(c, await platform.describe(namespace, name));
      },
    )
    .add(
      {
        method: 'delete',
        path,
        operationId: 'deleteFunction',
        summary: 'Remove a function and its revisions; what is in flight ends',
        access: { namespace: 'path', scope: 'deploy', absent: 'function' },
        audit: { action: 'function.delete', subject: 'name' },
        request: { params: FunctionPath },
        responses: responses({ 204: { description: 'It is routed no more.' } }),
      },
      async (c) => {
        const { namespace, name } = checkedPath(c, FunctionPath);
        await platform.delete(namespace, name);
        log.info({ requestId: c.env.requestId, namespace, name }, 'function deleted');
        return c.body(null, 204);
      },
    )
    .add(
      {
        method: 'put',
        path: `${path}/traffic`,
        operationId: 'setTraffic',
        summary: 'Share the requests out among revisions; answered once they have instances and all gateways have heard',
        access: { namespace: 'path', scope: 'deploy', absent: 'function' },
        audit: { action: 'function.traffic', subject: 'name' },
        request: { params: FunctionPath, headers: IfMatch, body: { required: true, content: jsonContent('TrafficRequest') } },
        responses: responses({ 200: response('The function after it.', 'FunctionView') }),
      },
      async (c) => {
        const { namespace, name } = checkedPath(c, FunctionPath);
        const expected = ifMatch(c);
        const { traffic } = await checkedJson(c, TrafficRequest, limits);
        note(c, { detail: { traffic } });
        return withEtag(c, await platform.setTraffic(namespace, name, traffic, expected, clientGone(c)));
      },
    )
    .add(
      {
        method: 'put',
        path: `${path}/access`,
        operationId: 'setAccess',
        summary:
          'Set how the function is reached: routes, CORS, who may call it and how often, its triggers, how it is called later, how much of its logs is kept',
        access: { namespace: 'path', scope: 'deploy', absent: 'function' },
        audit: { action: 'function.access', subject: 'name' },
        request: { params: FunctionPath, headers: IfMatch, body: { required: true, content: jsonContent('FunctionAccess') } },
        responses: responses({ 200: response('The function after it.', 'FunctionView') }),
      },
      async (c) => {
        const { namespace, name } = checkedPath(c, FunctionPath);
        const expected = ifMatch(c);
        const access = await checkedJson(c, PutAccessRequest, limits);
        note(c, { detail: { routes: access.routes, auth: access.auth.type, triggers: access.triggers.map((trigger) => trigger.name) } });
        checkTriggers(access.triggers, (index) => ['triggers', index]);
        return withEtag(c, await platform.setAccess(namespace, name, access, expected));
      },
    );
}
