/** `fn logs`: what functions write, tagged with the request, capped, across restarts. */
import { execa } from 'execa';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { LogEntry } from '#contract/api.ts';
import { ROOT } from '../helpers/root.ts';
import { drivers, usePlatform } from '../helpers/suite.ts';
import { waitFor } from '../helpers/wait.ts';

const PROBE = 'test/e2e/fixtures/probe.ts';
/** Longest that the flood may take, seconds. */
const FLOOD_TIMEOUT_S = 20;
/** More than a function may log at once (4 MiB) and in that time (1 MiB/s): of a flood that is answered, lines are dropped, however slow the machine. */
const FLOOD_BYTES = (4 + FLOOD_TIMEOUT_S) * 1024 * 1024 * 1.2;
const FLOOD_LINE_BYTES = 1_000;
const FLOOD = `export default { fetch: async (request: Request) => {
  const { pathname } = new URL(request.url);
  if (pathname === '/flood') for (let i = 0; i < ${FLOOD_BYTES / FLOOD_LINE_BYTES}; i++) console.log('flood', i, 'x'.repeat(${FLOOD_LINE_BYTES}));
  if (pathname === '/long') console.log('L'.repeat(300_000));
  if (pathname === '/control') console.log('a\\u001b[31m\\nb\\r\\u0000c');
  return new Response('ok');
} };`;

for (const driver of drivers('docker')) {
  describe(`logs (${driver})`, () => {
    const platform = usePlatform({ driver });
    const entries = async (name: string, ...flags: string[]) =>
      (await platform().fnOk(['logs', name, '--json', ...flags])).stdout
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => LogEntry.parse(JSON.parse(line)));

    it('lines carry their stream, level, revision, instance and request', async () => {
      await platform().deploy('chatty', PROBE);
      const answer = await platform().call('/chatty/log/hello-there');
      const lines = await waitFor('both lines', async () => {
        const found = (await entries('chatty')).filter(({ msg }) => msg.includes('hello-there'));
        return found.length >= 2 && found;
      });
      const [instance] = await platform().instances('chatty');
      for (const line of lines) {
        expect(line).toMatchObject({ revision: 'default/chatty@1', instance: instance!.id, req: answer.headers['x-request-id'] });
      }
      expect(lines.map(({ stream, level }) => `${stream} ${level}`).toSorted()).toEqual(['err error', 'out info']);
      expect((await platform().fnOk(['logs', 'chatty'])).stdout).toContain('hello-there');
    });

    it('are found by request, level, text and time, and counted where they were dropped', async () => {
      const before = Date.now();
      const answer = await platform().call('/chatty/log/needle-1');
      await platform().call('/chatty/log/needle-2');
      const id = String(answer.headers['x-request-id']);
      await waitFor('all four lines', async () => (await entries('chatty', '--grep', 'needle-')).length >= 4);
      expect((await entries('chatty', '--request', id)).map(({ req }) => req)).toEqual([id, id]);
      expect((await entries('chatty', '--grep', 'needle-', '--level', 'error')).map(({ level }) => level)).toEqual(['error', 'error']);
      expect(await entries('chatty', '--grep', 'needle-2', '--limit', '1')).toHaveLength(1);
      expect(await entries('chatty', '--until', new Date(before - 60_000).toISOString())).toEqual([]);
      expect((await entries('chatty', '--since', '1h', '--revision', '1', '--grep', 'needle-')).length).toBe(4);
      const times = (await entries('chatty')).map(({ t }) => t);
      expect(times).toEqual(times.toSorted((a, b) => a - b));
    });

    it('-f follows, over a new revision and a restart of the controller', async () => {
      await platform().deploy('followed', PROBE);
      const follow = execa(join(ROOT, 'fn'), ['logs', 'followed', '-f'], {
        env: { FN_HOME: platform().home },
        reject: false,
        stdin: 'ignore',
        buffer: false,
      });
      let text = '';
      follow.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()));
      try {
        const says = async (word: string) => {
          await waitFor(
            `the line ${word}`,
            async () => {
              await platform().call(`/followed/log/${word}`);
              return text.includes(word);
            },
            { everyMs: 300 },
          );
        };
        await says('before');
        await platform().deploy('followed', PROBE);
        await says('after-deploy');
        process.kill(await platform().pid('controller'), 'SIGKILL');
        await says('after-restart');
        expect(text.indexOf('before')).toBeLessThan(text.indexOf('after-restart'));
      } finally {
        follow.kill('SIGINT');
        await follow;
      }
    });

    it('what was written before a restart of the controller is still there, once', async () => {
      await platform().deploy('kept', PROBE, { flags: ['--keep-alive', '600'] });
      await platform().call('/kept/log/first-word');
      await waitFor('the line', async () => (await entries('kept')).some(({ msg }) => msg.includes('first-word')));
      process.kill(await platform().pid('controller'), 'SIGKILL');
      await waitFor('logs again', async () => (await platform().fn(['logs', 'kept'])).code === 0);
      await platform().call('/kept/log/second-word');
      const all = await waitFor('both', async () => {
        const found = await entries('kept');
        return found.some(({ msg }) => msg.includes('second-word')) && found;
      });
      expect(all.filter(({ msg, stream }) => stream === 'out' && msg.includes('first-word'))).toHaveLength(1);
    });

    it('floods and long lines are capped, control characters escaped, and the function still serves', async () => {
      await platform().deploy('flood', FLOOD, { flags: ['--timeout', String(FLOOD_TIMEOUT_S)] });
      for (const path of ['/flood/flood', '/flood/long', '/flood/control']) {
        const answer = await platform().call(path);
        expect([answer.status, answer.text]).toEqual([200, 'ok']);
      }
      expect((await platform().call('/flood')).status).toBe(200);
      const { stdout } = await platform().fnOk(['logs', 'flood']);
      // A flood of a pod comes through kubelet and API server, and is counted when it has come.
      const { stderr } = await waitFor(
        'the count of what was dropped',
        async () => {
          const read = await platform().fnOk(['logs', 'flood', '--limit', '1']);
          if (read.stderr === '') throw new Error(`nothing was dropped; newest of the log: ${read.stdout.slice(0, 300)}`);
          return read;
        },
        { timeoutMs: 60_000 },
      );
      expect(stderr).toMatch(/^note: \d+ lines were dropped since flood was first deployed/);
      expect(Buffer.byteLength(stdout)).toBeLessThan(16 * 1024 * 1024);
      // oxlint-disable-next-line no-control-regex -- these are what must not come through
      expect(stdout).not.toMatch(/[\u0000\u001b\r]/);
      for (const { msg } of await entries('flood')) expect(Buffer.byteLength(msg)).toBeLessThan(17_000);
    });

    it('an unknown function is an error, not silence', async () => {
      const result = await platform().fn(['logs', 'nobody']);
      expect(result.code).not.toBe(0);
      expect(result.stderr).toMatch(/nobody/);
    });
  });
}
