/** The control API, without a listener: authentication, routes, errors. */
import { OpenAPIHono } from '@hono/zod-openapi';
import { FnError } from '#contract/errors.ts';
import type { Log } from '#kit/log.ts';
import type { BundleStore } from '../store/types.ts';
import { bundleRoutes } from './bundles.ts';
import { API_LIMITS, type ApiBindings, type ApiDependencies, type ApiEnv, type ApiLimits } from './env.ts';
import { functionRoutes } from './functions.ts';
import { linger } from './input.ts';
import { logRoutes } from './logs.ts';
import type { Platform } from './platform.ts';
import { ClientGone, logError, problemAnswer, toFnError } from './problems.ts';
import { revisionRoutes } from './revisions.ts';
import { componentSchemas } from './schemas.ts';
import { statusRoutes } from './status.ts';
import type { TokenCheck } from './token.ts';

export interface ApiOptions {
  platform: Platform;
  bundles: BundleStore;
  log: Log;
  /** Version of fn, as `info.version` of the OpenAPI document. */
  version: string;
  /** Checks the Authorization header of requests over TCP; null: all of them are refused. */
  auth: TokenCheck | null;
  limits?: ApiLimits;
}

export interface Api {
  fetch(request: Request, bindings: ApiBindings): Response | Promise<Response>;
  /** Methods that a path knows, as in the Allow header; none where there is no such path. */
  allowedMethods(path: string): string[];
  /** Whether requests over TCP can be let in at all. */
  readonly hasAuth: boolean;
}

/** Puts the API together. Serve it with startApiServer. */
export function createApi({ platform, bundles, log, version, auth, limits = API_LIMITS }: ApiOptions): Api {
  const dependencies: ApiDependencies = { platform, bundles, log, limits };
  const app = new OpenAPIHono<ApiEnv>();

  app.use('*', async (c, next) => {
    const { incoming, outgoing, transport, requestId } = c.env;
    const began = performance.now();
    if (transport !== 'unix' && auth?.(incoming.headers.authorization) !== true) {
      throw new FnError('unauthorized', 'Send the token of this platform: Authorization: Bearer TOKEN.');
    }
    await next();
    const status = outgoing.headersSent ? outgoing.statusCode : c.res.status;
    log.debug(
      { requestId, transport, method: c.req.method, path: c.req.path, status, ms: Math.round(performance.now() - began) },
      'request',
    );
  });

  for (const [name, schema] of componentSchemas()) app.openAPIRegistry.registerComponent('schemas', name, schema);
  for (const router of [statusRoutes, functionRoutes, revisionRoutes, logRoutes, bundleRoutes]) app.route('/', router(dependencies).hono);
  app.openAPIRegistry.registerPath({
    method: 'get',
    path: '/v1/openapi.json',
    operationId: 'getOpenApi',
    summary: 'This document',
    responses: { 200: { description: 'OpenAPI 3.1.', content: { 'application/json': { schema: { type: 'object' } } } } },
  });
  const document = app.getOpenAPI31Document({ openapi: '3.1.0', info: { title: 'fn control API', version } });
  app.get('/v1/openapi.json', (c) => c.json(document));

  const allowedMethods = methodTable(Object.entries(document.paths ?? {}).map(([path, item]) => [path, Object.keys(item)]));
  app.notFound((c) => {
    const allowed = allowedMethods(c.req.path);
    if (allowed.length === 0) throw new FnError('not-found', 'There is no such path; GET /v1/openapi.json lists them.');
    const { body, headers, status } = problemAnswer(
      new FnError('method-not-allowed', `${c.req.method} is not allowed here.`),
      c.env.requestId,
    );
    return new Response(JSON.stringify(body), { status, headers: { ...headers, allow: allowed.join(', ') } });
  });

  app.onError(async (error, c) => {
    if (error instanceof ClientGone || c.env.outgoing.destroyed)
      log.debug({ requestId: c.env.requestId, path: c.req.path }, 'the client was gone before it was answered');
    const known = toFnError(error);
    if (!(error instanceof ClientGone)) logError(log, known, c.env.requestId);
    if (known.code === 'body-too-large') await linger(c.env, limits);
    const { body, headers, status } = problemAnswer(known, c.env.requestId);
    return new Response(JSON.stringify(body), { status, headers });
  });

  return { fetch: (request, bindings) => app.fetch(request, bindings), allowedMethods, hasAuth: auth !== null };
}

function methodTable(paths: [string, string[]][]): (path: string) => string[] {
  const table = paths.map(([path, methods]) => ({
    pattern: new RegExp(`^${path.replaceAll('.', '\\.').replaceAll(/\{\w+\}/g, '[^/]+')}$`),
    methods: [...new Set(methods.flatMap((method) => (method === 'get' ? ['GET', 'HEAD'] : [method.toUpperCase()])))].toSorted(),
  }));
  return (path) => table.find(({ pattern }) => pattern.test(path))?.methods ?? [];
}
