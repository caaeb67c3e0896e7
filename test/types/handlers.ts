/** The types of the package's entry, used as a function's author uses them. Checked by `npm run check`, never run. */
import type { Context, Handler, HttpEvent, HttpResult, LambdaContext, MessageBatch } from 'fn';

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
  queue(batch: MessageBatch) {
    for (const message of batch.messages) message.ack();
  },
  scheduled({ cron, scheduledTime }) {
    console.log(cron, scheduledTime);
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
