/** Bundles of a namespace: asking for one by its digest, and sending it. */
import { BUNDLE_LIMITS, type BundleInfo } from '#contract/api.ts';
import { absent } from './access.ts';
import { note } from './audit-trail.ts';
import { type ApiContext, type ApiDependencies, Router } from './env.ts';
import { checkedPath, limitedBody, requireContentType } from './input.ts';
import { BundlePath, response, responses } from './schemas.ts';
import { uploadLimit } from './uploads.ts';

const path = '/v1/namespaces/{namespace}/bundles/{digest}';
const GZIP = 'application/gzip';

export function bundleRoutes(dependencies: ApiDependencies): Router {
  const { bundles, artifacts, tenants, limits, log } = dependencies;
  const get = async (c: ApiContext): Promise<Response> => {
    const { namespace, digest } = checkedPath(c, BundlePath);
    // Who has not sent it does not learn that another has. has() also keeps it from being pruned before
    // the deployment that this question announces.
    const known = (await artifacts.hasArtifact(namespace, 'bundle', digest)) && (await bundles.has(digest));
    const info = known ? await bundles.info(digest) : null;
    if (info === null) throw absent('bundle', { namespace, digest });
    return c.json({ digest, ...info } satisfies BundleInfo);
  };
  return new Router(dependencies)
    .add(
      {
        method: 'get',
        path,
        operationId: 'getBundle',
        summary: 'Size of a bundle that was sent for this namespace',
        access: { namespace: 'path', scope: 'read', absent: 'bundle' },
        request: { params: BundlePath },
        responses: responses({ 200: response('It is there.', 'BundleInfo') }),
      },
      get,
    )
    .add(
      {
        method: 'head',
        path,
        operationId: 'hasBundle',
        summary: 'Whether a bundle is there',
        access: { namespace: 'path', scope: 'read', absent: 'bundle' },
        request: { params: BundlePath },
        responses: responses({ 200: { description: 'It is there.' } }),
      },
      get,
    )
    .add(
      {
        method: 'put',
        path,
        operationId: 'putBundle',
        summary: `Send a bundle: a gzip-compressed tar of regular files and folders, at most ${BUNDLE_LIMITS.maxUploadBytes / 1024 / 1024} MiB`,
        access: { namespace: 'path', scope: 'deploy', absent: 'bundle' },
        audit: { action: 'bundle.upload', subject: 'digest' },
        request: { params: BundlePath, body: { required: true, content: { [GZIP]: { schema: { type: 'string', format: 'binary' } } } } },
        responses: responses({ 200: response('It was there already.', 'BundleInfo'), 201: response('It is kept.', 'BundleInfo') }),
      },
      async (c) => {
        const { namespace, digest } = checkedPath(c, BundlePath);
        requireContentType(c, GZIP);
        const { maxBytes, tooLarge } = await uploadLimit(tenants, namespace);
        const body = limitedBody(c, {
          maxBytes,
          tooLarge,
          windowMs: limits.bodyWindowMs,
          minBytesPerWindow: limits.minUploadBytesPerWindow,
        });
        // Whether this namespace had it: that another one has it is not for this one to know.
        const had = (await artifacts.hasArtifact(namespace, 'bundle', digest)) && (await bundles.has(digest));
        const { created, bytes, files } = await bundles.put(digest, body);
        await artifacts.addArtifact(namespace, 'bundle', digest, Date.now());
        note(c, { detail: { bytes, files }, unchanged: had });
        if (created) log.info({ requestId: c.env.requestId, namespace, digest, bytes, files }, 'bundle kept');
        return c.json({ digest, bytes, files } satisfies BundleInfo, had ? 200 : 201);
      },
    );
}
