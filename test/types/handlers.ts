/** The types of the package's entry, used as a function's author uses them. Checked by `npm run check`, never run. */
import type {
  BatchResult,
  CloudEvent,
  Context,
  EventHandlers,
  Handler,
  HttpEvent,
  HttpResult,
  LambdaContext,
  MessageBatch,
  RecordsEvent,
  ScheduleEvent,
} from 'fn';

interface Env {
  GREETING: string;
}

export default {
  async fetch(request, env, ctx) {
    const { waitUntil, requestId } = ctx;
    waitUntil(Promise.resolve(requestId));
    if (request.headers.get('upgrade') === 'websocket') {
      const { response, socket } = ctx.upgradeWebSocket(request, { protocol: 'chat' });
      socket.addEventListener('message', ({ data }) => socket.send(String(data)));
      return response;
    }
    ctx.signal.throwIfAborted();
    return new Response(`${env.GREETING} ${ctx.functionName}@${ctx.revision} ${ctx.remainingMs()}`);
  },
  queue(batch: MessageBatch<{ order: number }>) {
    for (const message of batch.messages) {
      if (message.body.order > 0) message.ack();
      else message.retry({ delaySeconds: 2 ** message.attempts });
      // @ts-expect-error: seconds are a number.
      batch.retryAll({ delaySeconds: '5' });
    }
  },
  scheduled({ cron, scheduledTime, timezone, event }) {
    console.log(cron, scheduledTime, timezone, event.source);
    return { done: true };
  },
  async event({ id, data, attempt = 1 }, env) {
    return `${env.GREETING} ${id} ${attempt} ${String(data)}`;
  },
} satisfies Handler<Env>;

export function GET(_request: Request, ctx: Context): Response {
  // @ts-expect-error: there is no such thing.
  void ctx.nowhere;
  return Response.json({ id: ctx.requestId });
}

export async function handler(event: HttpEvent, context: LambdaContext): Promise<HttpResult> {
  return { statusCode: 200, body: `${event.requestContext.http.method} ${event.rawPath} ${context.getRemainingTimeInMillis()}` };
}

export const scheduled: EventHandlers<Env>['scheduled'] = ({ data }, env, ctx) => ctx.waitUntil(Promise.resolve(`${env.GREETING} ${data}`));

export function event(given: CloudEvent<{ total: number }>): number {
  // @ts-expect-error: there may be no data.
  void given.data.total;
  return given.data?.total ?? 0;
}

export const records = async ({ Records }: RecordsEvent): Promise<BatchResult> => ({
  batchItemFailures: Records.filter(({ body }) => body === '').map(({ messageId }) => ({ itemIdentifier: messageId })),
});

export const nightly = (tick: ScheduleEvent<{ table: string }>): string => `${tick.time} ${tick.detail.table}`;
