/** Revisions: deploying one, and those there are. */
import { DeployRequest } from '#contract/api.ts';
import { note } from './audit-trail.ts';
import { type ApiDependencies, Router } from './env.ts';
import { checkedJson, checkedPath } from './input.ts';
import { FunctionPath, jsonContent, response, responses } from './schemas.ts';
import { clientGone } from './signals.ts';
import { checkTriggers } from './trigger-faults.ts';
import { requireBundle } from './uploads.ts';

export function revisionRoutes(dependencies: ApiDependencies): Router {
  const { platform, bundles, artifacts, limits } = dependencies;
  return new Router(dependencies)
    .add(
      {
        method: 'get',
        path: '/v1/namespaces/{namespace}/functions/{name}/revisions',
        operationId: 'listRevisions',
        summary: 'Revisions of a function that are kept, the newest first',
        access: { namespace: 'path', scope: 'read', absent: 'function' },
        request: { params: FunctionPath },
        responses: responses({ 200: response('The revisions.', 'RevisionList') }),
      },
      async (c) => {
        const { namespace, name } = checkedPath(c, FunctionPath);
        return c.json({ revisions: await platform.revisions(namespace, name) });
      },
    )
    .add(
      {
        method: 'post',
        path: '/v1/namespaces/{namespace}/functions/{name}/revisions',
        operationId: 'deploy',
        summary:
          'Deploy a bundle as the next revision, and route to it once an instance is ready. Closing the connection before the commit abandons it',
        access: { namespace: 'path', scope: 'deploy', absent: 'namespace' },
        audit: { action: 'function.deploy', subject: 'name' },
        request: { params: FunctionPath, body: { required: true, content: jsonContent('DeployRequest') } },
        responses: responses({ 201: response('It is live.', 'DeployResponse') }),
      },
      async (c) => {
        const { namespace, name } = checkedPath(c, FunctionPath);
        const request = await checkedJson(c, DeployRequest, limits);
        note(c, { detail: { bundle: request.bundle, image: request.image, traffic: request.traffic } });
        checkTriggers(request.access?.triggers ?? [], (index) => ['access', 'triggers', index]);
        await requireBundle(namespace, request, { bundles, artifacts });
        const answer = await platform.deploy(namespace, name, request, clientGone(c));
        note(c, { detail: { revision: answer.revision.number, bundle: request.bundle, image: request.image, traffic: request.traffic } });
        return c.json(answer, 201);
      },
    );
}
