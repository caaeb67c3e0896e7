/**
 * Scale by backlog: a trigger of a function that sleeps costs no container; when there is a backlog, instances come as
 * it needs them and no more than may be; when it is worked off, they go.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type RedisServer, startRedis } from '../helpers/redis-server.ts';
import { drivers, usePlatform } from '../helpers/suite.ts';
import { range, sleep, waitFor } from '../helpers/wait.ts';

const MESSAGES = 240;
const MAX = 3;

/** One message at a time, 50 ms each: a single instance would take 12 s. */
const SLOW = `
export async function queue({ messages }: { messages: readonly unknown[] }): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, 50 * messages.length));
}
`;

const manifest = (url: string) => `
functions:
  slow:
    entry: ./slow.ts
    concurrency: 1
    max: ${MAX}
    keepAlive: 2s
    triggers: [{ type: redis-stream, url: "${url}", stream: work, startFrom: beginning }]
`;

for (const driver of drivers('docker')) {
  describe(`a backlog (${driver})`, () => {
    const platform = usePlatform({ driver });
    let broker: RedisServer;

    beforeAll(async () => {
      broker = await startRedis({ appendfsync: 'no' });
      const folder = join(platform().home, 'src', 'backlog');
      mkdirSync(folder, { recursive: true });
      writeFileSync(join(folder, 'slow.ts'), SLOW);
      writeFileSync(join(folder, 'fn.yaml'), manifest(broker.url));
      await platform().fnOk(['deploy'], { cwd: folder });
    });
    afterAll(() => broker.stop());

    const trigger = async () => {
      const { stdout } = await platform().fnOk(['trigger', 'list', 'slow', '--json']);
      const [view] = (JSON.parse(stdout) as { triggers: { status: { state: string; lag: number | null; succeeded: number } }[] }).triggers;
      return view!.status;
    };

    it('costs no instance while there is none, brings as many as it needs, and leaves none behind', async () => {
      await platform().scaledToZero('slow');
      await waitFor('the trigger', async () => (await trigger()).state === 'running');
      await sleep(1_000);
      expect(await platform().instances('slow')).toEqual([]);

      const client = broker.client();
      await Promise.all(range(MESSAGES).map((number) => client.xadd('work', '*', 'number', String(number))));
      const seen: number[] = [];
      const over = new AbortController();
      const watching = (async () => {
        for (; !over.signal.aborted; await sleep(50)) seen.push((await platform().instances('slow')).length);
      })();
      await waitFor('all messages', async () => (await trigger()).succeeded >= MESSAGES, { timeoutMs: 120_000, everyMs: 100 }).finally(
        () => {
          over.abort();
        },
      );
      await watching;
      expect(Math.max(...seen)).toBe(MAX);
      await waitFor('nothing to be left', async () => (await trigger()).lag === 0);

      await platform().scaledToZero('slow');
      expect((await trigger()).state).toBe('running');
    }, 300_000);
  });
}
