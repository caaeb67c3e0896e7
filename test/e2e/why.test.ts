/** `fn why` and `fn calls`: one call explained, from the outside. */
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { CallList, Why } from '#contract/call.ts';
import { FunctionStats } from '#contract/stats.ts';
import { call } from '../helpers/http.ts';
import { drivers, usePlatform } from '../helpers/suite.ts';
import { waitFor } from '../helpers/wait.ts';

const TROUBLE = `
let hoard = [];
export default { fetch: async (request) => {
  const { pathname } = new URL(request.url);
  console.log('asked for', pathname);
  if (pathname === '/throw') throw new TypeError('no such thing');
  if (pathname === '/slow') await new Promise((resolve) => setTimeout(resolve, 60_000));
  if (pathname === '/burn') {
    const begun = process.cpuUsage();
    const used = (from) => { const { user, system } = process.cpuUsage(from); return (user + system) / 1e6; };
    while (used(begun) < 1);
    return Response.json({ burnt: used(begun), sinceBoot: used() });
  }
  if (pathname === '/exit') process.exit(3);
  if (pathname === '/eat') for (;;) hoard.push(Buffer.alloc(8 * 1024 * 1024, 1));
  return new Response('ok');
} };`;

/** Half a megabyte, of which a bundler can leave out nothing. */
const LARGE = `
const all = [${Array.from({ length: 2_000 }, (_, n) => `(input) => { const part${n} = 'text ${n} ${'.'.repeat(200)}'; return input === part${n}.length ? part${n} : ${n}; }`).join(',\n')}];
export default { fetch: () => new Response(String(all.at(-1)(0))) };`;

// What it tells comes from gateway and controller: one driver is enough, the one that can tell most.
for (const driver of drivers('docker')) {
  describe(`why (${driver})`, () => {
    const platform = usePlatform({ driver, env: { FN_SLOW_MS: '1000' } });
    const idOf = async (path: string): Promise<string> =>
      String((await platform().call(path, { timeoutMs: 60_000 })).headers['x-request-id']);
    /** Its log lines may still be on their way. */
    const why = (id: string, until: (found: Why) => boolean = () => true): Promise<Why> =>
      waitFor(`an explanation of ${id}`, async () => {
        const found = Why.parse(JSON.parse((await platform().fnOk(['why', id, '--json'])).stdout));
        return until(found) && found;
      });

    it('tells a cold call from a warm one, sampled or not', async () => {
      await platform().deploy('trouble', TROUBLE, { flags: ['--timeout', '5', '--memory', '64', '--keep-alive', '0'] });
      await platform().scaledToZero('trouble');
      const cold = await why(await idOf('/trouble'), ({ logs }) => logs.length > 0);
      expect(cold.temperature).toMatch(/^cold/);
      expect(cold.phases.map(({ name }) => name)).toEqual(expect.arrayContaining(['queue', 'init', 'handler', 'stream']));
      expect(cold).toMatchObject({ fault: 'none', call: { status: 200, name: 'trouble', revision: 'default/trouble@1' } });
      expect(cold.logs.map(({ msg }) => msg)).toEqual(['asked for /']);
      // More than the sample: the last of them only the gateway remembers.
      const last = await waitFor('one that was warm', async () => {
        let id = '';
        for (let n = 0; n < 30; n += 1) id = await idOf('/trouble');
        const found = await why(id);
        // Between two calls of a machine that stands still the instance goes.
        return found.temperature.startsWith('warm') && found;
      });
      expect(last).toMatchObject({ call: { status: 200 } });
    });

    it('a function that throws: its error, its place, its log', async () => {
      const id = await idOf('/trouble/throw');
      const { fault, summary, advice, logs } = await why(id, (found) => found.logs.length >= 2);
      expect(fault).toBe('function');
      expect(summary).toContain('no such thing');
      expect(advice.join(' ')).toMatch(/handler\.ts:6:\d+/);
      expect(logs.every(({ req }) => req === id)).toBe(true);
      const text = (await platform().fnOk(['why', id])).stdout;
      for (const part of ['GET /trouble/throw → 500', 'at fault: function', '█', 'what to do', 'log of this request'])
        expect(text).toContain(part);
    });

    it('one that is too slow: where the time went', async () => {
      const { fault, advice, call, phases } = await why(await idOf('/trouble/slow'), (found) => found.logs.length > 0);
      expect(call).toMatchObject({ status: 504, code: 'function-timeout' });
      expect(fault).toBe('function');
      expect(phases.at(-1)).toMatchObject({ name: 'handler' });
      expect(advice.join(' ')).toMatch(/timeout of 5 s.*asked for \/slow/);
    });

    it('one whose process ends: the platform says how', async () => {
      const found = await why(await idOf('/trouble/exit'), ({ instance }) => (instance?.notes.length ?? 0) > 0);
      expect(found.call).toMatchObject({ status: 502, code: 'function-crashed' });
      expect(found.instance?.notes.map(({ msg }) => msg).join(' ')).toMatch(/ended: .*3/);
    });

    it('calls are listed by what became of them, and the newest explained by its function’s name', async () => {
      const failed = await waitFor('three failures', async () => {
        const { calls } = CallList.parse(JSON.parse((await platform().fnOk(['calls', 'trouble', '--failed', '--json'])).stdout));
        return calls.length >= 3 && calls;
      });
      expect(failed.map(({ status }) => status)).toEqual([502, 504, 500]);
      expect((await platform().fnOk(['calls', 'trouble', '--cold'])).stdout).toMatch(/^TIME.*\n.*(?:pooled|full)/);
      const newest = Why.parse(JSON.parse((await platform().fnOk(['why', '--failed', 'trouble', '--json'])).stdout));
      expect(newest.call.id).toBe(failed[0]!.id);
      const slow = Why.parse(JSON.parse((await platform().fnOk(['why', '--slow', 'trouble', '--json'])).stdout));
      expect(slow.call.code).toBe('function-timeout');
      // Who asks right after a call finds it, though gateways tell in batches.
      const list = 'http://fn/v1/namespaces/default/functions/trouble/calls?failed=true&limit=1';
      for (let n = 0; n < 5; n += 1) {
        const asked: string[] = [];
        const found: string[] = [];
        // One that stands still for half a second just then is not waited for: the next one is found, or the one after it.
        while (asked.length < 3 && (asked.length === 0 || asked.at(-1) !== found.at(-1))) {
          asked.push(await idOf('/trouble/throw'));
          const answer = await call(list, { socketPath: join(platform().runDir, 'control', 's') });
          found.push(CallList.parse(answer.json()).calls[0]?.id ?? 'none');
        }
        expect(found.at(-1)).toBe(asked.at(-1));
      }
    });

    it('what it used: CPU by the kernel’s counter, calls by the gateway’s; neither is less or twice after both have died', async () => {
      await platform().deploy('burner', TROUBLE, { flags: ['--memory', '64', '--keep-alive', '600'] });
      const stats = async (): Promise<FunctionStats> =>
        FunctionStats.parse(JSON.parse((await platform().fnOk(['stats', 'burner', '--json'])).stdout));
      const told = z.object({ burnt: z.number(), sinceBoot: z.number() });
      const { burnt, sinceBoot } = told.parse((await platform().call('/burner/burn', { timeoutMs: 60_000 })).json());
      const used = await waitFor('what it burnt', async () => {
        const found = await stats();
        return found.cpuSeconds >= burnt && found;
      });
      // Its own word, of all of its process, is the most that it can be; what it did after that is little.
      expect(used.cpuSeconds).toBeLessThan(sinceBoot + 0.5);
      expect(used).toMatchObject({ invocations: 1, errors: 0, revisions: [{ number: 1, invocations: 1 }] });
      expect(used.memoryReservedGibSeconds).toBeGreaterThan(burnt / 16);
      expect(used.memoryUsedGibSeconds).toBeGreaterThan(0);
      expect(used.memoryUsedGibSeconds).toBeLessThanOrEqual(used.memoryReservedGibSeconds * 1.05);

      for (const part of ['gateway', 'controller'] as const) process.kill(await platform().pid(part), 'SIGKILL');
      await waitFor('the platform', async () => (await platform().fn(['list'])).code === 0);
      await waitFor('an answer', async () => (await platform().call('/burner')).status === 200);
      const later = await waitFor('the next call', async () => {
        const found = await stats();
        return found.invocations > 1 && found;
      });
      expect(later.cpuSeconds).toBeGreaterThanOrEqual(used.cpuSeconds);
      expect(later.cpuSeconds).toBeLessThan(used.cpuSeconds + 0.5);
      const table = (await platform().fnOk(['stats'])).stdout;
      expect(table).toMatch(/^NAMESPACE +NAME +CALLS .*CPU/);
      for (const line of [/^default +burner +\d+ /m, /^ +\(pool\) /m]) expect(table).toMatch(line);
    });

    it('a large bundle is compiled once: later starts have its code cache, and say so', async () => {
      await platform().deploy('large', LARGE, { flags: ['--keep-alive', '0'] });
      // Made by the first of them, and taken when it is whole.
      const found = await waitFor('a start that has it', async () => {
        await platform().scaledToZero('large');
        const answer = await platform().call('/large', { timeoutMs: 60_000 });
        expect(answer.text).toBe('1999');
        const explained = await why(String(answer.headers['x-request-id']));
        return explained.call.start?.codeCache === 'hit' && explained;
      });
      expect(found.phases.find(({ name }) => name === 'init')?.note).toContain('from its code cache');
    });

    it('survives the controller; the journal is no gateway’s memory', async () => {
      const { calls } = CallList.parse(JSON.parse((await platform().fnOk(['calls', 'trouble', '--failed', '--json'])).stdout));
      for (const part of ['gateway', 'controller'] as const) process.kill(await platform().pid(part), 'SIGKILL');
      await waitFor(
        'the platform',
        async () => (await platform().call('/trouble')).status === 200 && (await platform().fn(['list'])).code === 0,
      );
      expect(await why(calls[0]!.id)).toMatchObject({ call: calls[0] });
    });

    it('what nobody knows is an error with a way out', async () => {
      const unknown = await platform().fn(['why', 'never-was']);
      expect(unknown.code).toBe(1);
      expect(unknown.stderr).toMatch(/no record of .*never-was.*\n.*x-request-id/i);
      expect((await platform().fn(['why'])).code).toBe(2);
      expect((await platform().fn(['why', '--failed', 'nobody'])).code).toBe(1);
    });

    it('one that runs out of memory: what it had', async () => {
      const { call, advice } = await why(await idOf('/trouble/eat'));
      expect(call).toMatchObject({ status: 502, code: 'function-oom' });
      expect(advice[0]).toMatch(/It had 64 MiB.*--memory 128/);
    });
  });
}
