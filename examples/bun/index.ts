/** A Bun server as it is: Bun.serve opens no port, its requests come from the platform. */
const visits = new Map<string, number>();

Bun.serve({
  async fetch(request) {
    const { pathname } = new URL(request.url);
    const count = (visits.get(pathname) ?? 0) + 1;
    visits.set(pathname, count);
    const hash = new Bun.CryptoHasher('sha256').update(await request.text()).digest('hex');
    return Response.json({ bun: Bun.version.split('.')[0], path: pathname, visits: count, sha256: hash });
  },
});
