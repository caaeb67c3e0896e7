/** The control API, without a listener: authentication, routes, errors. */
import { OpenAPIHono } from '@hono/zod-openapi';
import { FnError } from '#contract/errors.ts';
import type { Principal } from '#contract/tenancy.ts';
import { auditRoutes } from './audit.ts';
import { bundleRoutes } from './bundles.ts';
import { imageRoutes } from './images.ts';
import { callRoutes } from './calls.ts';
import { deadLetterRoutes } from './dead-letters.ts';
import { API_LIMITS, type ApiBindings, type ApiDependencies, type ApiEnv, type ApiLimits, Router } from './env.ts';
import { functionRoutes } from './functions.ts';
import { linger } from './input.ts';
import { invocationRoutes } from './invocations.ts';
import { logRoutes } from './logs.ts';
import { namespaceRoutes } from './namespaces.ts';
import { ClientGone, logError, problemAnswer, toFnError } from './problems.ts';
import { PUBLIC_REGISTRIES } from './registries.ts';
import { revisionRoutes } from './revisions.ts';
import { componentSchemas } from './schemas.ts';
import { secretRoutes } from './secrets.ts';
import { statsRoutes } from './stats.ts';
import { statusRoutes } from './status.ts';
import { tokenRoutes } from './tokens.ts';
import { triggerRoutes } from './triggers.ts';

/** Who may enter the folder of the unix socket owns the home and all that is in it. */
export const OWNER: Principal = { id: 'owner', name: 'owner', scopes: ['admin'], namespaces: '*' };

export interface ApiOptions extends Omit<ApiDependencies, 'limits' | 'registries'> {
  limits?: ApiLimits;
  /** Default: the public ones. */
  registries?: readonly string[];
}

export interface Api {
  fetch(request: Request, bindings: ApiBindings): Response | Promise<Response>;
  /** Methods that a path knows, as in the Allow header; none where there is no such path. */
  allowedMethods(path: string): string[];
}

/** One per resource. */
const ROUTERS: readonly ((dependencies: ApiDependencies) => Router)[] = [
  statusRoutes,
  functionRoutes,
  revisionRoutes,
  logRoutes,
  callRoutes,
  statsRoutes,
  invocationRoutes,
  deadLetterRoutes,
  triggerRoutes,
  bundleRoutes,
  imageRoutes,
  secretRoutes,
  namespaceRoutes,
  tokenRoutes,
  auditRoutes,
];

/** Puts the API together. Serve it with startApiServer. */
export function createApi({ limits = API_LIMITS, registries = PUBLIC_REGISTRIES, ...options }: ApiOptions): Api {
  const dependencies: ApiDependencies = { ...options, limits, registries };
  const { tenants, log, version } = options;
  const app = new OpenAPIHono<ApiEnv>();

  app.use('*', async (c, next) => {
    const { incoming, outgoing, transport, requestId } = c.env;
    const began = performance.now();
    const principal = transport === 'unix' ? OWNER : tenants.authenticate(incoming.headers.authorization);
    if (principal === null) throw new FnError('unauthorized', 'Send a token of this platform: Authorization: Bearer TOKEN.');
    c.set('principal', principal);
    await next();
    const status = outgoing.headersSent ? outgoing.statusCode : c.res.status;
    const ms = Math.round(performance.now() - began);
    log.debug({ requestId, transport, by: principal.id, method: c.req.method, path: c.req.path, status, ms }, 'request');
  });

  for (const [name, schema] of componentSchemas()) app.openAPIRegistry.registerComponent('schemas', name, schema);
  app.openAPIRegistry.registerComponent('securitySchemes', 'token', { type: 'http', scheme: 'bearer' });
  for (const router of ROUTERS) app.route('/', router(dependencies).hono);
  const own = new Router(dependencies).add(
    {
      method: 'get',
      path: '/v1/openapi.json',
      operationId: 'getOpenApi',
      summary: 'This document',
      access: { namespace: 'filtered', scope: null },
      responses: { 200: { description: 'OpenAPI 3.1.', content: { 'application/json': { schema: { type: 'object' } } } } },
    },
    (c) => c.json(document),
  );
  app.route('/', own.hono);
  const document = app.getOpenAPI31Document({ openapi: '3.1.0', info: { title: 'fn control API', version } });

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
    if (known.code === 'body-too-large' || known.code === 'quota-exceeded') await linger(c.env, limits);
    const { body, headers, status } = problemAnswer(known, c.env.requestId);
    return new Response(JSON.stringify(body), { status, headers });
  });

  return { fetch: (request, bindings) => app.fetch(request, bindings), allowedMethods };
}

function methodTable(paths: [string, string[]][]): (path: string) => string[] {
  const table = paths.map(([path, methods]) => ({
    pattern: new RegExp(`^${path.replaceAll('.', '\\.').replaceAll(/\{\w+\}/g, '[^/]+')}$`),
    methods: [...new Set(methods.flatMap((method) => (method === 'get' ? ['GET', 'HEAD'] : [method.toUpperCase()])))].toSorted(),
  }));
  return (path) => table.find(({ pattern }) => pattern.test(path))?.methods ?? [];
}
