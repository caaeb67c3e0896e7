/**
 * Receives webhooks as GitHub sends them: the body is signed with a secret that both sides know, and
 * what is not signed is refused before it is parsed.
 */
import { createHmac, timingSafeEqual } from 'node:crypto';

interface Env {
  WEBHOOK_SECRET: string;
}

/** Bytes; GitHub's own limit is 25 MB, this function needs no more than some kilobytes. */
const MAX_BODY_BYTES = 1024 * 1024;

export default {
  async fetch(request: Request, env: Env): Promise<Response> {
    if (request.method !== 'POST') return new Response('POST only\n', { status: 405, headers: { allow: 'POST' } });
    const body = Buffer.from(await request.arrayBuffer());
    if (body.length > MAX_BODY_BYTES) return new Response('too large\n', { status: 413 });
    if (!isSigned(body, request.headers.get('x-hub-signature-256'), env.WEBHOOK_SECRET))
      return new Response('bad signature\n', { status: 401 });

    const event = request.headers.get('x-github-event') ?? 'unknown';
    const payload = parse(body.toString('utf8'));
    if (payload === null) return new Response('not JSON\n', { status: 400 });
    console.log(`${event} of ${payload.repository?.full_name ?? 'nobody'}`);
    return Response.json({ received: event });
  },
};

function parse(text: string): { repository?: { full_name?: string } } | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? value : null;
  } catch {
    return null;
  }
}

/** Compared in constant time: how much of a guess was right must not show. */
function isSigned(body: Buffer, header: string | null, secret: string): boolean {
  const expected = createHmac('sha256', secret).update(body).digest();
  const given = Buffer.from(/^sha256=([0-9a-f]{64})$/.exec(header ?? '')?.[1] ?? '', 'hex');
  return given.length === expected.length && timingSafeEqual(given, expected);
}
