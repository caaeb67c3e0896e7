/** Functions that are declared in a cluster; the platform runs on this host and follows one namespace. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { FunctionStatus } from '#contract/function-resource.ts';
import { useCluster } from '../helpers/cluster.ts';
import { startPlatform, type TestPlatform } from '../helpers/platform.ts';
import { ROOT } from '../helpers/root.ts';

const CRD = readFileSync(join(ROOT, 'helm/fn/files/functions.fn.dev.yaml'), 'utf8');
const HELLO = `export default { fetch: (request: Request): Response => new Response('hello ' + (process.env.WHO ?? 'you')) };\n`;

describe('declared functions', () => {
  const cluster = useCluster();
  let namespace = '';
  let isOurs = false;
  let platform: TestPlatform;

  const kubectl = (args: readonly string[], input?: string) =>
    cluster().kubectl([...args, '-n', namespace], input === undefined ? {} : { input });
  const status = async (name: string) => {
    const { status: said } = await cluster().get(z.object({ status: FunctionStatus.optional() }), [
      'functions.fn.dev',
      name,
      '-n',
      namespace,
    ]);
    return said;
  };
  /** `Ready Serving, Synced ChangedElsewhere` of the newest generation. */
  const said = async (name: string) => ((await status(name))?.conditions ?? []).map(({ type, reason }) => `${type} ${reason}`).join(', ');
  const untilSaid = (name: string, what: string) => expect.poll(() => said(name), { timeout: 60_000, interval: 200 }).toBe(what);
  const object = (name: string, spec: object) =>
    JSON.stringify({ apiVersion: 'fn.dev/v1alpha1', kind: 'Function', metadata: { name }, spec });
  const inline = { inline: { files: { 'handler.ts': HELLO } } };

  beforeAll(async () => {
    const { code } = await cluster().run('kubectl', ['get', 'crd/functions.fn.dev'], { mayFail: true });
    isOurs = code !== 0;
    // One that a chart brought is that one's.
    if (isOurs) await cluster().kubectl(['apply', '-f', '-'], { input: CRD });
    await cluster().kubectl(['wait', '--for=condition=Established', 'crd/functions.fn.dev', '--timeout=120s']);
    namespace = await cluster.namespace('declared');
    const settings = { kubeconfig: cluster().kubeconfig, declared: [{ kubeNamespace: namespace, namespace: 'default' }] };
    platform = await startPlatform({ driver: 'process', env: { FN_KUBERNETES: JSON.stringify(settings) } });
  }, 240_000);
  afterAll(async () => {
    expect((await platform?.dispose()) ?? []).toEqual([]);
    if (isOurs) await cluster().kubectl(['delete', 'crd/functions.fn.dev', '--wait=false']);
  });

  it('are served once they are applied, change with the object, and go with it', async () => {
    await kubectl(['apply', '-f', '-'], object('hello', { source: inline, env: { WHO: 'one' }, memory: '256Mi' }));
    await kubectl(['wait', '--for=condition=Ready', 'functions.fn.dev/hello', '--timeout=120s']);
    expect((await platform.call('/hello')).text).toBe('hello one');
    await kubectl(['apply', '-f', '-'], object('hello', { source: inline, env: { WHO: 'two' }, cpu: 0.5, timeout: '5s' }));
    await expect.poll(async () => (await platform.call('/hello')).text, { timeout: 60_000 }).toBe('hello two');
    await untilSaid('hello', 'Ready Serving, Synced Applied');
    expect(await kubectl(['get', 'fnf', 'hello'])).toMatch(
      /READY\s+SYNCED\s+REVISION\s+URL\s+AGE\s+hello\s+True\s+True\s+default\/hello@2\s+http/,
    );
    await expect.poll(() => kubectl(['describe', 'functions.fn.dev', 'hello'])).toMatch(/Normal\s+Applied/);
    const { stdout } = await platform.fnOk(['audit', '--json']);
    expect(stdout).toContain(`kubernetes:${namespace}/hello`);
    await kubectl(['delete', 'functions.fn.dev', 'hello']);
    await expect.poll(async () => (await platform.call('/hello')).status, { timeout: 60_000 }).toBe(404);
  });

  it('that somebody changes past the object say so, and go back when they are told to', async () => {
    await kubectl(['apply', '-f', '-'], object('conflict', { source: inline }));
    await untilSaid('conflict', 'Ready Serving, Synced Applied');
    const { stderr } = await platform.deploy('conflict', HELLO.replace('hello', 'hotfix'));
    expect(stderr).toContain(`conflict is declared by Function ${namespace}/conflict of Kubernetes`);
    await untilSaid('conflict', 'Ready Serving, Synced ChangedElsewhere');
    expect((await platform.call('/conflict')).text).toBe('hotfix you');
    const told = (await status('conflict'))?.conditions.find(({ type }) => type === 'Synced')?.message;
    expect(told).toMatch(/not what this object says: code.* Changed by owner \(function\.deploy\) at 20/);
    await kubectl(['annotate', 'functions.fn.dev/conflict', 'fn.dev/reapply=1']);
    await untilSaid('conflict', 'Ready Serving, Synced Applied');
    expect((await platform.call('/conflict')).text).toBe('hello you');
    expect((await platform.fn(['delete', 'conflict', '--yes'])).stderr).toContain('is declared by Function');
    await untilSaid('conflict', 'Ready Deleted, Synced ChangedElsewhere');
  });

  it('that are wrong are refused by the schema, or say what is wrong', async () => {
    const refused = async (spec: object) =>
      cluster().run('kubectl', ['apply', '-n', namespace, '-f', '-'], { input: object('wrong', spec), mayFail: true });
    expect((await refused({ source: {} })).stderr).toContain('spec.source');
    expect((await refused({ source: { ...inline, bundle: `sha256:${'a'.repeat(64)}` } })).stderr).toContain(
      'must validate one and only one schema',
    );
    expect((await refused({ source: inline, min: -1 })).stderr).toContain('spec.min');
    expect((await refused({ source: inline, tiemout: '5s' })).stderr).toContain('unknown field "tiemout"');
    await kubectl(['apply', '-f', '-'], object('wrong', { source: inline, timeout: 'soon' }));
    await untilSaid('wrong', 'Ready Invalid, Synced Invalid');
    await expect.poll(() => kubectl(['describe', 'functions.fn.dev', 'wrong'])).toContain('/spec/timeout: must be a time from 0.1s to 1h');
  });

  it('that fn render prints need nothing but the object', async () => {
    const source = platform.write(`import { posix } from 'node:path';\n${HELLO.replace("'hello '", "posix.join('a', 'b') + ' '")}`);
    const [one, two] = [
      await platform.fnOk(['render', source, '--name', 'rendered']),
      await platform.fnOk(['render', source, '--name', 'rendered']),
    ];
    expect(one.stdout).toBe(two.stdout);
    await kubectl(['apply', '-f', '-'], one.stdout);
    await untilSaid('rendered', 'Ready Serving, Synced Applied');
    expect((await platform.call('/rendered')).text).toBe('a/b you');
    await kubectl(['delete', 'functions.fn.dev', '--all']);
    await expect.poll(async () => (await platform.status()).functions, { timeout: 60_000 }).toEqual([]);
  });

  it('explain themselves to kubectl', async () => {
    expect(await cluster().kubectl(['explain', 'functions.fn.dev.spec.source'])).toMatch(/inline[\s\S]*archive|archive[\s\S]*inline/);
    expect(await cluster().kubectl(['explain', 'functions.fn.dev.spec.memory'])).toContain('Memory of an instance');
  });
});
