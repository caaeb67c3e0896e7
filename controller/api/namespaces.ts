/** Namespaces: quotas, hosts, usage. One begins to be when it is set, or something is put into it. */
import { NamespaceSettings } from '#contract/tenancy.ts';
import { note } from './audit-trail.ts';
import { type ApiDependencies, Router } from './env.ts';
import { checkedJson, checkedPath } from './input.ts';
import { jsonContent, NamespacePath, response, responses } from './schemas.ts';

const path = '/v1/namespaces/{namespace}';

export function namespaceRoutes(dependencies: ApiDependencies): Router {
  const { tenants, limits } = dependencies;
  return new Router(dependencies)
    .add(
      {
        method: 'get',
        path: '/v1/namespaces',
        operationId: 'listNamespaces',
        summary: 'Namespaces of the caller, with their quotas and what they use',
        access: { namespace: 'filtered', scope: 'read' },
        responses: responses({ 200: response('By name.', 'NamespaceList') }),
      },
      async (c) => c.json({ namespaces: await tenants.listNamespaces(c.get('principal')) }),
    )
    .add(
      {
        method: 'get',
        path,
        operationId: 'getNamespace',
        summary: 'One namespace',
        access: { namespace: 'path', scope: 'read', absent: 'namespace' },
        request: { params: NamespacePath },
        responses: responses({ 200: response('The namespace.', 'NamespaceView') }),
      },
      async (c) => {
        const { namespace } = checkedPath(c, NamespacePath);
        return c.json(await tenants.getNamespace(namespace));
      },
    )
    .add(
      {
        method: 'put',
        path,
        operationId: 'putNamespace',
        summary: 'Set the quota and the hosts of a namespace, all of them at once; it is made where there is none',
        access: { namespace: 'platform', scope: 'admin' },
        audit: { action: 'namespace.set', subject: 'namespace' },
        request: { params: NamespacePath, body: { required: true, content: jsonContent('NamespaceSettings') } },
        responses: responses({ 200: response('The namespace after it.', 'NamespaceView') }),
      },
      async (c) => {
        const { namespace } = checkedPath(c, NamespacePath);
        const settings = await checkedJson(c, NamespaceSettings, limits);
        note(c, { detail: { ...settings } });
        return c.json(await tenants.putNamespace(namespace, settings));
      },
    )
    .add(
      {
        method: 'delete',
        path,
        operationId: 'deleteNamespace',
        summary: 'Remove a namespace; refused while it has functions or secrets',
        access: { namespace: 'platform', scope: 'admin' },
        audit: { action: 'namespace.delete', subject: 'namespace' },
        request: { params: NamespacePath },
        responses: responses({ 204: { description: 'It is gone.' } }),
      },
      async (c) => {
        const { namespace } = checkedPath(c, NamespacePath);
        await tenants.deleteNamespace(namespace);
        return c.body(null, 204);
      },
    );
}
