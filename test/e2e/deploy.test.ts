/** `fn deploy` and the commands around it, as users type them. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { FunctionView } from '#contract/function.ts';
import { drivers, usePlatform } from '../helpers/suite.ts';
import { waitFor } from '../helpers/wait.ts';

const answer = (text: string) => `export default { fetch: () => new Response(${JSON.stringify(text)}) };\n`;

/** Sources that must be refused, with what the user must be told. */
const REFUSED: { what: string; source: string; says: RegExp[] }[] = [
  { what: 'does not build', source: 'export default {\n  fetch: () => new Response("x"\n};\n', says: [/handler\.ts:3:\d+/] },
  {
    what: 'imports what is not there',
    source: "import { x } from './missing.ts';\nexport default { fetch: () => new Response(x) };\n",
    says: [/missing/, /handler\.ts:1:\d+/],
  },
  {
    what: 'throws on load',
    source:
      "const config: { url?: string } = {};\n\nthrow new TypeError('no url in ' + JSON.stringify(config));\nexport default () => new Response('x');\n",
    says: [/TypeError/, /no url in/, /handler\.ts:3:\d+/],
  },
  { what: 'exports nothing callable', source: 'export const answer = 42;\n', says: [/export/i] },
  {
    what: 'never finishes loading',
    source: "await new Promise((resolve) => setTimeout(resolve, 3_600_000));\nexport default { fetch: () => new Response('x') };\n",
    says: [/load|init|time/i],
  },
  {
    what: 'ends its process on load',
    source: "process.exit(3);\nexport default { fetch: () => new Response('x') };\n",
    says: [/exit|ended|crash/i],
  },
];

for (const driver of drivers('docker')) {
  describe(`deploy (${driver})`, () => {
    const platform = usePlatform({ driver });
    const describeFn = async (name: string) => FunctionView.parse(JSON.parse((await platform().fnOk(['describe', name, '--json'])).stdout));

    it('prints exactly the URL on stdout and the steps on stderr', async () => {
      const { stdout, stderr } = await platform().deploy('first', answer('one'));
      expect(stdout).toBe(`${platform().url}/first\n`);
      expect(stderr).toMatch(/fetch/);
      expect(stderr).toMatch(/ms|\bs\b/);
      expect((await platform().call('/first')).text).toBe('one');
    });

    it('--json prints one JSON value', async () => {
      const { stdout } = await platform().deploy('json', answer('one'), { flags: ['--json'] });
      expect(JSON.parse(stdout)).toMatchObject({ url: `${platform().url}/json` });
    });

    it('an unchanged bundle is not sent again, and still makes a new revision', async () => {
      await platform().deploy('same', answer('same'));
      const second = await platform().deploy('same', answer('same'), { flags: ['--memory', '256'] });
      expect(second.stderr).toMatch(/unchanged|already|not sent/i);
      const view = await describeFn('same');
      expect(view.revision.number).toBe(2);
      expect(view.revision.settings.memoryMib).toBe(256);
    });

    it('TypeScript with npm imports is bundled', async () => {
      // Beside the project's node_modules, as a user's file is beside theirs.
      await platform().deploy('npm', 'test/e2e/fixtures/with-npm.ts');
      expect((await platform().call('/npm/abc')).text).toBe('ABC');
    });

    for (const { what, source, says } of REFUSED) {
      it(`a bundle that ${what} is refused, and the old revision keeps serving`, async () => {
        const name = what.replaceAll(/[^a-z]+/g, '-');
        await platform().deploy(name, answer('old'));
        const refused = await platform().deploy(name, source, { mayFail: true });
        expect(refused.code).not.toBe(0);
        expect(refused.stdout).toBe('');
        for (const pattern of says) expect(refused.stderr).toMatch(pattern);
        expect((await platform().call(`/${name}`)).text).toBe('old');
        expect((await describeFn(name)).revision.number).toBe(1);
      });
    }

    it('settings are kept as they were given', async () => {
      const flags = ['--memory', '200', '--cpu', '0.5', '--timeout', '7', '--concurrency', '3', '--min', '1', '--max', '2'];
      await platform().deploy('settings', answer('x'), {
        flags: [...flags, '--keep-alive', '11', '--egress', 'none', '--env', 'A=1', '--env', 'B=x=y'],
      });
      expect((await describeFn('settings')).revision.settings).toEqual({
        runtime: 'node',
        sandbox: null,
        memoryMib: 200,
        cpu: 0.5,
        timeoutSeconds: 7,
        concurrency: 3,
        min: 1,
        max: 2,
        keepAliveSeconds: 11,
        egress: 'none',
        env: { A: '1', B: 'x=y' },
        secrets: [],
        maxStreamSeconds: 3_600,
      });
      await platform().fnOk(['delete', 'settings']);
    });

    it.each([
      [['--memory', '-1']],
      [['--memory', 'NaN']],
      [['--memory', '1e18']],
      [['--timeout', '0']],
      [['--min', '3', '--max', '2']],
      [['--concurrency', '0']],
      [['--egress', '10.0.0.0/99']],
      [['--env', 'FN_X=1']],
      [['--name', '../x']],
      [['--name', 'constructor']],
      [['--name', 'UPPER']],
      [['--name', 'x'.repeat(64)]],
      [['--runtime', 'cobol']],
    ])('%j is refused as wrong usage or input', async (flags) => {
      const refused = await platform().fn(['deploy', platform().write(answer('x')), '--name', 'bad', ...flags]);
      expect(refused.code).not.toBe(0);
      expect(refused.stdout).toBe('');
      expect(refused.stderr).not.toMatch(/\n\s+at .*\(?(?:node:|file:|\/)/);
      expect((await platform().call('/bad')).status).toBe(404);
    });

    it('list, describe, invoke and delete', async () => {
      await platform().deploy('tools', 'test/e2e/fixtures/probe.ts');
      const list = JSON.parse((await platform().fnOk(['list', '--json'])).stdout) as unknown;
      expect(JSON.stringify(list)).toContain('"tools"');
      expect((await platform().fnOk(['list'])).stdout).toContain('tools');
      expect((await platform().fnOk(['describe', 'tools'])).stdout).toContain('tools@1');

      const invoked = async (args: string[], input?: string) =>
        JSON.parse((await platform().fnOk(['invoke', 'tools', ...args], input === undefined ? {} : { input })).stdout) as Record<
          string,
          unknown
        >;
      expect(await invoked(['-d', 'data'])).toMatchObject({ method: 'POST', body: 'data' });
      expect(await invoked(['-X', 'PUT', '-H', 'x-a: b', '--path', '/p/q?r=1', '-d', 'x'])).toMatchObject({
        method: 'PUT',
        path: '/p/q',
        query: '?r=1',
        headers: { 'x-a': 'b' },
      });
      const file = join(platform().home, 'data.txt');
      writeFileSync(file, 'from a file');
      expect(await invoked(['-d', `@${file}`])).toMatchObject({ body: 'from a file' });
      expect(await invoked(['-d', '-'], 'from stdin')).toMatchObject({ body: 'from stdin' });

      await platform().fnOk(['delete', 'tools']);
      expect((await platform().call('/tools')).status).toBe(404);
      expect((await platform().fn(['describe', 'tools'])).code).not.toBe(0);
      expect((await platform().fn(['delete', 'tools'])).code).not.toBe(0);
      await waitFor('its instances to go', async () => (await platform().instances('tools')).length === 0);
      // A number names one revision for ever, also over a deletion.
      await platform().deploy('tools', answer('again'));
      expect((await describeFn('tools')).revision.number).toBe(2);
    });

    it('a deploy moves traffic when it returns', async () => {
      for (const version of ['v1', 'v2', 'v3']) {
        await platform().deploy('moving', answer(version));
        expect((await platform().call('/moving')).text).toBe(version);
      }
    });
  });
}
