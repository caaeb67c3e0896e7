/** Secrets of a namespace: set, list, delete. No route gives a value. */
import { z } from 'zod';
import { Namespace, SecretName } from '#contract/names.ts';
import { PutSecretRequest } from '#contract/tenancy.ts';
import { note } from './audit-trail.ts';
import { type ApiDependencies, Router } from './env.ts';
import { checkedJson, checkedPath } from './input.ts';
import { jsonContent, NamespacePath, response, responses } from './schemas.ts';

const SecretPath = z.object({ namespace: Namespace, name: SecretName });
const path = '/v1/namespaces/{namespace}/secrets';

export function secretRoutes(dependencies: ApiDependencies): Router {
  const { secrets, limits } = dependencies;
  return new Router(dependencies)
    .add(
      {
        method: 'get',
        path,
        operationId: 'listSecrets',
        summary: 'Names, versions and users of the secrets; never a value',
        access: { namespace: 'path', scope: 'read', absent: 'namespace' },
        request: { params: NamespacePath },
        responses: responses({ 200: response('By name.', 'SecretList') }),
      },
      async (c) => {
        const { namespace } = checkedPath(c, NamespacePath);
        return c.json({ secrets: await secrets.list(namespace) });
      },
    )
    .add(
      {
        method: 'get',
        path: `${path}/{name}`,
        operationId: 'getSecret',
        summary: 'Version and users of a secret; never its value',
        access: { namespace: 'path', scope: 'read', absent: 'secret' },
        request: { params: SecretPath },
        responses: responses({ 200: response('The secret.', 'SecretView') }),
      },
      async (c) => {
        const { namespace, name } = checkedPath(c, SecretPath);
        return c.json(await secrets.get(namespace, name));
      },
    )
    .add(
      {
        method: 'put',
        path: `${path}/{name}`,
        operationId: 'putSecret',
        summary: 'Set a secret; instances that have the old value are replaced after the answer',
        access: { namespace: 'path', scope: 'deploy', absent: 'secret' },
        audit: { action: 'secret.set', subject: 'name' },
        request: { params: SecretPath, body: { required: true, content: jsonContent('PutSecretRequest') } },
        responses: responses({ 200: response('It is kept; a value that is the same has the same version.', 'SecretView') }),
      },
      async (c) => {
        const { namespace, name } = checkedPath(c, SecretPath);
        const { value } = await checkedJson(c, PutSecretRequest, limits);
        const view = await secrets.set(namespace, name, value);
        note(c, { detail: { version: view.version } });
        return c.json(view);
      },
    )
    .add(
      {
        method: 'delete',
        path: `${path}/{name}`,
        operationId: 'deleteSecret',
        summary: 'Remove a secret; refused while a revision with traffic names it',
        access: { namespace: 'path', scope: 'deploy', absent: 'secret' },
        audit: { action: 'secret.delete', subject: 'name' },
        request: { params: SecretPath },
        responses: responses({ 204: { description: 'It is gone.' } }),
      },
      async (c) => {
        const { namespace, name } = checkedPath(c, SecretPath);
        await secrets.delete(namespace, name);
        return c.body(null, 204);
      },
    );
}
