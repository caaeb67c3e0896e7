/** Streams both ways: lines as they are made, or the request's body back as it comes, in upper case. */
export default {
  fetch(request: Request): Response {
    if (request.body)
      return new Response(request.body.pipeThrough(upperCase()), { headers: { 'content-type': 'text/plain; charset=utf-8' } });
    const count = Math.min(Number(new URL(request.url).searchParams.get('count') ?? 5), 1_000);
    return new Response(ReadableStream.from(ticks(count)), { headers: { 'content-type': 'text/plain; charset=utf-8' } });
  },
};

/** The client has each line when it is yielded, not when all are done. */
async function* ticks(count: number): AsyncGenerator<Uint8Array> {
  const encoder = new TextEncoder();
  for (let tick = 1; tick <= count; tick += 1) {
    yield encoder.encode(`tick ${tick}\n`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

function upperCase(): TransformStream<Uint8Array, Uint8Array> {
  const decoder = new TextDecoder();
  const encoder = new TextEncoder();
  return new TransformStream({
    transform(chunk, controller) {
      controller.enqueue(encoder.encode(decoder.decode(chunk, { stream: true }).toUpperCase()));
    },
    flush(controller) {
      controller.enqueue(encoder.encode(decoder.decode().toUpperCase()));
    },
  });
}
