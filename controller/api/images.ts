/** Images of a namespace: an archive that is sent, one that the engine pulls, and what is known of one. */
import { z } from 'zod';
import { type ImageInfo, PullImageRequest } from '#contract/api.ts';
import { ImageId } from '#contract/function.ts';
import { FnError } from '#contract/errors.ts';
import { Namespace } from '#contract/names.ts';
import { covers } from '#contract/tenancy.ts';
import type { EngineImage, ImageStore } from '../driver/types.ts';
import { absent } from './access.ts';
import { note } from './audit-trail.ts';
import { type ApiContext, type ApiDependencies, Router } from './env.ts';
import { checkedJson, checkedPath, limitedBody, requireContentType } from './input.ts';
import { checkRegistry } from './registries.ts';
import { jsonContent, NamespacePath, response, responses } from './schemas.ts';

/** Bytes of an archive as it is sent; the driver holds what is in it to the same. */
const MAX_IMAGE_UPLOAD_BYTES = 2 * 1024 * 1024 * 1024;
const TAR = 'application/x-tar';
const path = '/v1/namespaces/{namespace}/images';

const ImagePath = z.object({ namespace: Namespace, image: ImageId });

export function imageRoutes(dependencies: ApiDependencies): Router {
  const { artifacts, limits, log, registries } = dependencies;
  /** From now on the namespace may deploy it. */
  const keep = async (c: ApiContext, namespace: string, image: EngineImage): Promise<Response> => {
    const had = await artifacts.hasArtifact(namespace, 'image', image.id);
    await artifacts.addArtifact(namespace, 'image', image.id, Date.now());
    note(c, { detail: { image: image.id, reference: image.reference, bytes: image.bytes }, unchanged: had });
    log.info({ requestId: c.env.requestId, namespace, image: image.id, reference: image.reference, bytes: image.bytes }, 'image kept');
    return c.json(image satisfies ImageInfo, had ? 200 : 201);
  };
  const answers = responses({
    200: response('The namespace had it already.', 'ImageInfo'),
    201: response('The namespace may use it.', 'ImageInfo'),
  });
  return new Router(dependencies)
    .add(
      {
        method: 'post',
        path,
        operationId: 'putImage',
        summary: `Send an image: the archive of docker save, or an OCI layout as a tar, at most ${MAX_IMAGE_UPLOAD_BYTES / 1024 / 1024} MiB`,
        access: { namespace: 'path', scope: 'deploy', absent: 'namespace' },
        audit: { action: 'image.upload', subject: 'namespace' },
        request: { params: NamespacePath, body: { required: true, content: { [TAR]: { schema: { type: 'string', format: 'binary' } } } } },
        responses: answers,
      },
      async (c) => {
        const { namespace } = checkedPath(c, NamespacePath);
        const images = requireImages(dependencies);
        requireContentType(c, TAR);
        const body = limitedBody(c, {
          maxBytes: MAX_IMAGE_UPLOAD_BYTES,
          tooLarge: () => new FnError('body-too-large', `The archive of an image has at most ${MAX_IMAGE_UPLOAD_BYTES} bytes.`),
          windowMs: limits.bodyWindowMs,
          minBytesPerWindow: limits.minUploadBytesPerWindow,
        });
        return await keep(c, namespace, await images.load(body, c.req.raw.signal));
      },
    )
    .add(
      {
        method: 'post',
        path: `${path}/pull`,
        operationId: 'pullImage',
        summary: 'Have the engine take an image that it has, or get it from its registry',
        access: { namespace: 'path', scope: 'deploy', absent: 'namespace' },
        audit: { action: 'image.pull', subject: 'namespace' },
        request: { params: NamespacePath, body: { required: true, content: jsonContent('PullImageRequest') } },
        responses: answers,
      },
      async (c) => {
        const { namespace } = checkedPath(c, NamespacePath);
        const images = requireImages(dependencies);
        const { reference } = await checkedJson(c, PullImageRequest, limits);
        const here = await alreadyHere(c, namespace, reference, images);
        if (here !== null) {
          await images.hold(here.id);
          return await keep(c, namespace, here);
        }
        checkRegistry(reference, c.get('principal'), registries);
        return await keep(c, namespace, await images.pull(reference, c.req.raw.signal));
      },
    )
    .add(
      {
        method: 'get',
        path: `${path}/{image}`,
        operationId: 'getImage',
        summary: 'What is known of an image that the namespace may use: by its id',
        access: { namespace: 'path', scope: 'read', absent: 'image' },
        request: { params: ImagePath },
        responses: responses({ 200: response('It is there.', 'ImageInfo') }),
      },
      async (c) => {
        const { namespace, image } = checkedPath(c, ImagePath);
        const found = await requireImages(dependencies).find(image);
        if (found === null || !(await artifacts.hasArtifact(namespace, 'image', found.id))) throw absent('image', { namespace, image });
        return c.json(found satisfies ImageInfo);
      },
    );

  /**
   * An image that the engine has and that this caller may use without a registry: one of the namespace's
   * own; for who may administer the platform any. Others would learn what their neighbours have built.
   */
  async function alreadyHere(c: ApiContext, namespace: string, reference: string, images: ImageStore): Promise<EngineImage | null> {
    const found = await images.find(reference);
    if (found === null) return null;
    if (covers(c.get('principal').namespaces, null)) return found;
    const pinned = reference.startsWith('sha256:');
    return pinned && (await artifacts.hasArtifact(namespace, 'image', found.id)) ? found : null;
  }
}

function requireImages({ images }: ApiDependencies): ImageStore {
  if (images !== null) return images;
  throw new FnError('invalid', 'This platform cannot run images: its driver is not docker.');
}
