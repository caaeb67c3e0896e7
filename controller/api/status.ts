/** What runs here, and how to end it. */
import { FnError } from '#contract/errors.ts';
import { type ApiDependencies, Router } from './env.ts';
import { response, responses, type Stopping } from './schemas.ts';

export function statusRoutes(dependencies: ApiDependencies): Router {
  const { platform, log } = dependencies;
  return new Router(dependencies)
    .add(
      {
        method: 'get',
        path: '/v1/status',
        operationId: 'getStatus',
        summary: 'What runs, and what this host can do',
        access: { namespace: 'platform', scope: 'read' },
        responses: responses({ 200: response('The status.', 'PlatformStatus') }),
      },
      async (c) => c.json(await platform.status()),
    )
    .add(
      {
        method: 'post',
        path: '/v1/shutdown',
        operationId: 'shutdown',
        summary: 'End every instance and then the controller; on the unix socket only',
        access: { namespace: 'platform', scope: 'admin' },
        audit: { action: 'platform.shutdown', subject: null },
        responses: responses({ 202: response('It has begun.', 'Stopping') }),
      },
      (c) => {
        if (c.env.transport !== 'unix')
          throw new FnError('forbidden', 'The platform can be stopped only over its unix socket, by who owns its home.');
        log.info({ requestId: c.env.requestId }, 'shutdown was asked for');
        // After the answer is out: the controller's exit would otherwise overtake it.
        c.env.outgoing.once('close', () => {
          platform
            .shutdown()
            .catch((error: unknown) => log.error({ err: error instanceof Error ? error.stack : error }, 'the shutdown failed'));
        });
        return c.json({ stopping: true } satisfies Stopping, 202, { connection: 'close' });
      },
    );
}
