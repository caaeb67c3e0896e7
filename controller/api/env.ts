/** What a handler of the API finds in its context, and what all routers are made of. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { OpenAPIHono, type createRoute } from '@hono/zod-openapi';
import type { Context } from 'hono';
import type { z } from 'zod';
import type { Log } from '#kit/log.ts';
import type { Principal } from '#contract/tenancy.ts';
import type { ImageStore } from '../driver/types.ts';
import type { BundleStore, TenancyStore } from '../store/types.ts';
import { type AccessRule, guarded } from './access.ts';
import type { AuditNote, AuditRule } from './audit-trail.ts';
import type { Audit, Events, Platform, Secrets, Tenants } from './platform.ts';

/** How a request came in. The unix socket is in a folder that only its owner can enter; TCP needs the token. */
export type Transport = 'unix' | 'tcp';

export interface ApiBindings {
  incoming: IncomingMessage;
  outgoing: ServerResponse;
  transport: Transport;
  requestId: string;
  /** Aborted when the server begins to close: streams that have no end must end then. */
  closing: AbortSignal;
}

export interface ApiEnv {
  Bindings: ApiBindings;
  Variables: {
    /** Set before any route is looked at. */
    principal: Principal;
    note?: AuditNote;
  };
}

export type ApiContext = Context<ApiEnv>;

/** Which namespace may refer to which bundle or image: whoever uploaded it for that namespace. */
export type Artifacts = Pick<TenancyStore, 'addArtifact' | 'hasArtifact'>;

export interface ApiDependencies {
  platform: Platform;
  events: Events;
  secrets: Secrets;
  tenants: Tenants;
  audit: Audit;
  bundles: BundleStore;
  artifacts: Artifacts;
  /** null where instances cannot be made of images. */
  images: ImageStore | null;
  /** Registries that the engine is sent to for anybody; see registries.ts. */
  registries: readonly string[];
  /** Version of fn. */
  version: string;
  log: Log;
  limits: ApiLimits;
}

export interface ApiLimits {
  /** A JSON body must have arrived within it; a bundle must bring minUploadBytesPerWindow in each. Milliseconds. */
  bodyWindowMs: number;
  /** 64 KiB in ten seconds is a telephone modem; less is a client that holds a connection on purpose. */
  minUploadBytesPerWindow: number;
  /** How long, and how much, a body that was refused is still read, so that its sender can read the answer. */
  lingerMs: number;
  lingerBytes: number;
}

export const API_LIMITS: ApiLimits = {
  bodyWindowMs: 10_000,
  minUploadBytesPerWindow: 64 * 1024,
  lingerMs: 500,
  lingerBytes: 8 * 1024 * 1024,
};

type OpenApiRoute = Parameters<typeof createRoute>[0];

/**
 * A description as OpenAPI has it (`{name}` in its path is a parameter), and who may use the route.
 * What changes anything has a name in the audit log.
 */
export type RouteDescription = Omit<OpenApiRoute, 'method'> & {
  access: AccessRule;
  request?: OpenApiRoute['request'] & { params?: z.ZodObject };
} & ({ method: 'get' | 'head'; audit?: undefined } | { method: 'post' | 'put' | 'patch' | 'delete'; audit: AuditRule });

/** The routes of one resource. */
export class Router {
  readonly hono = new OpenAPIHono<ApiEnv>();
  readonly #dependencies: Pick<ApiDependencies, 'audit' | 'log'>;

  constructor(dependencies: Pick<ApiDependencies, 'audit' | 'log'>) {
    this.#dependencies = dependencies;
  }

  /**
   * Adds a route, its description and its guard. Handlers check their input by themselves, with the
   * schemas that the description names: the library's own check would read a body without a limit.
   */
  add(description: RouteDescription, handle: (c: ApiContext) => Response | Promise<Response>): this {
    const { access, audit: _audit, ...openapi } = description;
    const { scope, namespace } = access;
    this.hono.openAPIRegistry.registerPath({ ...openapi, security: [{ token: [] }], 'x-access': { scope, namespace } });
    // Hono answers HEAD with the handler of GET.
    if (description.method !== 'head') {
      const path = description.path.replaceAll(/\{(\w+)\}/g, ':$1');
      this.hono.on(description.method.toUpperCase(), path, guarded(description, handle, this.#dependencies));
    }
    return this;
  }
}
