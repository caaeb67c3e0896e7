/** A module as Cloudflare Workers have it: env as an argument, work that goes on after the response. */
import type { Context } from 'fn';

interface Env {
  GREETING?: string;
}

export default {
  async fetch(request: Request, env: Env, ctx: Context): Promise<Response> {
    ctx.waitUntil(record(ctx.requestId, new URL(request.url).pathname));
    return Response.json({ greeting: env.GREETING ?? 'Hello', function: ctx.functionName, revision: ctx.revision });
  },
};

/** Runs on after the client has its answer; the instance is not stopped before it is done. */
async function record(requestId: string, path: string): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, 10));
  console.log(`recorded ${path} of ${requestId}`);
}
