/** A Deno server as it is: Deno.serve opens no port, its requests come from the platform. */
const STARTED = new Date();

Deno.serve((request: Request): Response => {
  const url = new URL(request.url);
  if (url.pathname === '/uptime') return Response.json({ started: STARTED.toISOString() });
  if (url.pathname !== '/') return new Response('not here\n', { status: 404 });
  return Response.json({ deno: Deno.version.deno.split('.')[0], greeting: `Hello, ${url.searchParams.get('name') ?? 'world'}` });
});
