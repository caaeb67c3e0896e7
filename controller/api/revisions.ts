/** Revisions: deploying one, and those there are. */
import { lstat } from 'node:fs/promises';
import { join } from 'node:path';
import { DeployRequest } from '#contract/api.ts';
import { FnError } from '#contract/errors.ts';
import type { BundleStore } from '../store/types.ts';
import { note } from './audit-trail.ts';
import { type ApiDependencies, type Artifacts, Router } from './env.ts';
import { checkedJson, checkedPath } from './input.ts';
import { FunctionPath, jsonContent, response, responses } from './schemas.ts';
import { clientGone } from './signals.ts';
import { checkTriggers } from './trigger-faults.ts';

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

interface Uploads {
  bundles: BundleStore;
  artifacts: Artifacts;
}

/** Throws FnError invalid where the namespace has not uploaded the bundle or the image, or the entry is not in the bundle. */
async function requireBundle(namespace: string, { bundle, entry, image }: DeployRequest, { bundles, artifacts }: Uploads): Promise<void> {
  if (!(await artifacts.hasArtifact(namespace, 'bundle', bundle)) || !(await bundles.has(bundle))) {
    throw new FnError('invalid', `The bundle ${bundle} is not here: upload it first.`, {
      errors: [{ pointer: '/bundle', detail: 'is not in the store; PUT it first' }],
    });
  }
  if (image !== null && !(await artifacts.hasArtifact(namespace, 'image', image))) {
    throw new FnError('invalid', `The image ${image} is not here: upload or pull it first.`, {
      errors: [{ pointer: '/image', detail: 'is not in the store; POST it first' }],
    });
  }
  if (image !== null) {
    // Young again: it is not removed while it is deployed. A function made of it has nothing in its bundle.
    await artifacts.addArtifact(namespace, 'image', image, Date.now());
    return;
  }
  // The store lets no links in, and the contract no `..`.
  const found = await lstat(join(await bundles.dir(bundle), entry)).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return null;
    throw error;
  });
  if (found?.isFile() !== true)
    throw new FnError('invalid', `The bundle has no file ${entry}.`, {
      errors: [{ pointer: '/entry', detail: 'is not a file of the bundle' }],
    });
}
