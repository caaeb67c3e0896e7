/** Bundles: asking for one by its digest, and sending it. */
import { BUNDLE_LIMITS, type BundleInfo } from '#contract/api.ts';
import { FnError } from '#contract/errors.ts';
import { type ApiContext, type ApiDependencies, Router } from './env.ts';
import { checkedPath, limitedBody, requireContentType } from './input.ts';
import { BundlePath, response, responses } from './schemas.ts';

const path = '/v1/bundles/{digest}';
const GZIP = 'application/gzip';

export function bundleRoutes({ bundles, limits, log }: ApiDependencies): Router {
  const get = async (c: ApiContext): Promise<Response> => {
    const { digest } = checkedPath(c, BundlePath);
    // has() also keeps it from being pruned before the deployment that this question announces.
    const info = (await bundles.has(digest)) ? await bundles.info(digest) : null;
    if (info === null) throw new FnError('not-found', `There is no bundle ${digest}.`);
    return c.json({ digest, ...info } satisfies BundleInfo);
  };
  return new Router()
    .add(
      {
        method: 'get',
        path,
        operationId: 'getBundle',
        summary: 'Size of a bundle',
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
        request: { params: BundlePath, body: { required: true, content: { [GZIP]: { schema: { type: 'string', format: 'binary' } } } } },
        responses: responses({ 200: response('It was there already.', 'BundleInfo'), 201: response('It is kept.', 'BundleInfo') }),
      },
      async (c) => {
        const { digest } = checkedPath(c, BundlePath);
        requireContentType(c, GZIP);
        const body = limitedBody(c, {
          maxBytes: BUNDLE_LIMITS.maxUploadBytes,
          windowMs: limits.bodyWindowMs,
          minBytesPerWindow: limits.minUploadBytesPerWindow,
        });
        const { created, bytes, files } = await bundles.put(digest, body);
        if (created) log.info({ requestId: c.env.requestId, digest, bytes, files }, 'bundle kept');
        return c.json({ digest, bytes, files } satisfies BundleInfo, created ? 201 : 200);
      },
    );
}
