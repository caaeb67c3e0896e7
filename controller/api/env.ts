/** What a handler of the API finds in its context, and what all routers are made of. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { OpenAPIHono, type createRoute } from '@hono/zod-openapi';
import type { Context } from 'hono';
import type { Log } from '#kit/log.ts';
import type { BundleStore } from '../store/types.ts';
import type { Platform } from './platform.ts';

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
}

export type ApiContext = Context<ApiEnv>;

export interface ApiDependencies {
  platform: Platform;
  bundles: BundleStore;
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

/** A description as OpenAPI has it; `{name}` in its path is a parameter. */
export type RouteDescription = Parameters<typeof createRoute>[0];

/** The routes of one resource. */
export class Router {
  readonly hono = new OpenAPIHono<ApiEnv>();

  /**
   * Adds a route and its description. Handlers check their input by themselves, with the schemas
   * that the description names: the library's own check would read a body without a limit.
   */
  add(description: RouteDescription, handle: (c: ApiContext) => Response | Promise<Response>): this {
    this.hono.openAPIRegistry.registerPath(description);
    // Hono answers HEAD with the handler of GET.
    if (description.method !== 'head')
      this.hono.on(description.method.toUpperCase(), description.path.replaceAll(/\{(\w+)\}/g, ':$1'), handle);
    return this;
  }
}
