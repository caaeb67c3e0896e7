/** The whole of a function: a default export with fetch, as Workers, Bun and Deno have it. */
export default {
  fetch(request: Request): Response {
    const name = new URL(request.url).searchParams.get('name') ?? 'world';
    return Response.json({ hello: name });
  },
};
