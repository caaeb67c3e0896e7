/** Back-pressure through a whole gateway, in both directions. */
import { Readable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { withGateway } from '../test/helpers/gateway-harness.ts';
import { serve } from '../test/helpers/gateway-served.ts';
import { open, readAll } from '../test/helpers/http.ts';
import { waitFor } from '../test/helpers/wait.ts';

describe('back-pressure', () => {
  it('keeps memory bounded while a slow client reads 200 MB, and nothing is lost', async () => {
    await withGateway(async (harness) => {
      const total = 200 * 1_048_576;
      const chunk = Buffer.alloc(256 * 1_024, 7);
      let sent = 0;
      await serve(
        harness,
        (_incoming, outgoing) => {
          const push = () => {
            while (sent < total) {
              sent += chunk.length;
              if (!outgoing.write(chunk)) {
                outgoing.once('drain', push);
                return;
              }
            }
            outgoing.end();
          };
          push();
        },
        { timeoutMs: 60_000 },
      );
      const { request, response } = open(`${harness.url}/hello`);
      request.end();
      const incoming = await response;
      incoming.pause();
      let before = -1;
      await waitFor(
        'the function to be held back',
        () => {
          const steady = sent === before;
          before = sent;
          return steady && sent > 0;
        },
        { everyMs: 100 },
      );
      expect(sent).toBeLessThan(32 * 1_048_576);
      let received = 0;
      incoming.on('data', (part: Buffer) => {
        received += part.length;
      });
      incoming.resume();
      await waitFor('all of it', () => incoming.complete, { timeoutMs: 50_000 });
      expect(received).toBe(total);
    });
  });

  it('holds a fast upload back while the function does not read', async () => {
    await withGateway(async (harness) => {
      const release: (() => void)[] = [];
      await serve(harness, (incoming, outgoing) => {
        let size = 0;
        release.push(() => incoming.on('data', (chunk: Buffer) => (size += chunk.length)).on('end', () => outgoing.end(String(size))));
      });
      const { request, response } = open(`${harness.url}/hello`, { method: 'POST' });
      const block = Buffer.alloc(1_048_576);
      let written = 0;
      const source = Readable.from(
        (function* blocks() {
          for (let i = 0; i < 60; i++) {
            written += block.length;
            yield block;
          }
        })(),
      );
      source.pipe(request);
      let before = -1;
      await waitFor(
        'the client to be held back',
        () => {
          const steady = written === before;
          before = written;
          return steady && release.length > 0;
        },
        { everyMs: 100 },
      );
      expect(written).toBeLessThan(32 * 1_048_576);
      release[0]!();
      expect((await readAll(await response)).toString()).toBe(String(60 * 1_048_576));
    });
  });
});
