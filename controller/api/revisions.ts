/** Revisions: deploying one, and those there are. */
import { lstat } from 'node:fs/promises';
import { join } from 'node:path';
import { DeployRequest } from '#contract/api.ts';
import { FnError } from '#contract/errors.ts';
import type { BundleStore } from '../store/types.ts';
import { type ApiDependencies, Router } from './env.ts';
import { checkedJson, checkedPath } from './input.ts';
import { FunctionPath, jsonContent, response, responses } from './schemas.ts';
import { clientGone } from './signals.ts';

export function revisionRoutes({ platform, bundles, limits }: ApiDependencies): Router {
  return new Router()
    .add(
      {
        method: 'get',
        path: '/v1/namespaces/{namespace}/functions/{name}/revisions',
        operationId: 'listRevisions',
        summary: 'Revisions of a function, the newest first',
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
        request: { params: FunctionPath, body: { required: true, content: jsonContent('DeployRequest') } },
        responses: responses({ 201: response('It is live.', 'DeployResponse') }),
      },
      async (c) => {
        const { namespace, name } = checkedPath(c, FunctionPath);
        const request = await checkedJson(c, DeployRequest, limits);
        await requireEntry(bundles, request);
        return c.json(await platform.deploy(namespace, name, request, clientGone(c)), 201);
      },
    );
}

/** Throws FnError invalid where the bundle or its entry is not there. */
async function requireEntry(bundles: BundleStore, { bundle, entry }: DeployRequest): Promise<void> {
  if (!(await bundles.has(bundle))) {
    throw new FnError('invalid', `The bundle ${bundle} is not here: upload it first.`, {
      errors: [{ pointer: '/bundle', detail: 'is not in the store; PUT it first' }],
    });
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
