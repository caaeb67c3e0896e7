/** Answers word by word, as a language model does: each word leaves when it is there, not when all are. */
const TEXT = 'A function sleeps at no cost. A request wakes it in a few milliseconds, it answers, and a while later it sleeps again.';

/** `?pause=50` milliseconds between two words, at most 1,000. `Accept: text/event-stream` gets events, anything else plain text. */
export function GET(request: Request): Response {
  const pauseMs = Math.min(1_000, Math.max(0, Number(new URL(request.url).searchParams.get('pause') ?? 50) || 0));
  const events = request.headers.get('accept')?.includes('text/event-stream') === true;
  const body = ReadableStream.from(encode(words(pauseMs, request.signal), events));
  return new Response(body, {
    headers: { 'content-type': events ? 'text/event-stream' : 'text/plain; charset=utf-8', 'cache-control': 'no-store' },
  });
}

async function* words(pauseMs: number, signal: AbortSignal): AsyncGenerator<string> {
  for (const word of TEXT.split(' ')) {
    // Whoever went away waits for nothing more.
    if (signal.aborted) return;
    yield word;
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
  }
}

async function* encode(source: AsyncIterable<string>, events: boolean): AsyncGenerator<Uint8Array> {
  const encoder = new TextEncoder();
  let id = 0;
  for await (const word of source) yield encoder.encode(events ? `id: ${++id}\ndata: ${word}\n\n` : `${word} `);
  if (events) yield encoder.encode('event: end\ndata:\n\n');
}
