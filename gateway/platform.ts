/** The platform's own pages on the public port: `/` and what is under `/.fn/`. Nothing of it changes anything. */
import { getRequestListener } from '@hono/node-server';
import { Hono } from 'hono';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { type ErrorCode, PROBLEM_TYPE, problem } from '#contract/errors.ts';
import { HEADERS } from '#contract/runtime.ts';
import type { Log } from '#kit/log.ts';

export interface PlatformState {
  /** Does the gateway know the routes, and is it to get requests? */
  ready(): boolean;
  draining(): boolean;
  newRequestId(): string;
}

type Listener = (incoming: IncomingMessage, outgoing: ServerResponse) => Promise<void>;

/** Is it for this app, whatever routes there are? */
export function isPlatformPath(url: string): boolean {
  return url.startsWith('/.fn/') || url === '/.fn' || url.startsWith('/.fn?');
}

/** Is it for this app where no route claims it? */
export const isRoot = (url: string): boolean => url === '/' || url.startsWith('/?');

export function createPlatformApp(state: PlatformState, log: Log): Hono {
  const app = new Hono();
  const answer = (code: ErrorCode, detail: string, headers: Record<string, string> = {}): Response => {
    const instance = state.newRequestId();
    const body = problem(code, detail, { instance });
    return new Response(JSON.stringify(body), {
      status: body.status,
      headers: {
        'content-type': PROBLEM_TYPE,
        [HEADERS.requestId]: instance,
        'cache-control': 'no-store',
        'server-timing': 'fn;dur=0',
        ...headers,
      },
    });
  };
  const page = (path: string, get: () => Response): void => {
    app.get(path, get);
    app.all(path, () => answer('method-not-allowed', 'this can only be read', { allow: 'GET, HEAD' }));
  };
  const json = (body: object): Response =>
    Response.json(body, {
      headers: { [HEADERS.requestId]: state.newRequestId(), 'cache-control': 'no-store', 'server-timing': 'fn;dur=0' },
    });

  page('/.fn/health', () => json({ status: 'ok' }));
  page('/.fn/ready', () => {
    if (state.draining()) return answer('shutting-down', 'this gateway is about to end', { 'retry-after': '1' });
    if (!state.ready()) return answer('not-ready', 'the routes are not known yet', { 'retry-after': '1' });
    return json({ status: 'ready' });
  });
  app.all('/', () =>
    answer('not-found', 'functions are at /NAME, or at /@NAMESPACE/NAME outside the default namespace; `fn list` shows them'),
  );
  app.notFound(() => answer('not-found', 'there is nothing here'));
  app.onError((error) => {
    log.error({ error: error.stack ?? error.message }, 'a platform page failed');
    return answer('internal', 'this page failed');
  });
  return app;
}

/** For Node's server. The global Request and Response stay as they are. */
export function platformListener(app: Hono): Listener {
  return getRequestListener(app.fetch, { overrideGlobalObjects: false });
}
