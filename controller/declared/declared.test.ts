import { createHash } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { FunctionAccess } from '#contract/access.ts';
import { DeployRequest } from '#contract/api.ts';
import { archive } from '#kit/archive.ts';
import { DeclaredHarness, HELLO } from '../../test/helpers/declared.ts';
import { KubeError, KubeUnreachable } from '../kube/types.ts';
import { WHOLE_FUNCTIONS } from './resource.ts';

const SERVED = 'Ready=True Serving, Synced=True Applied';
const CHANGED = 'Ready=True Serving, Synced=False ChangedElsewhere';

let harness: DeclaredHarness;
beforeEach(async () => {
  harness = await DeclaredHarness.open();
});
afterEach(() => harness.close());

const deploys = () => harness.platform.calls.filter((call) => call.startsWith('deploy ')).length;
const request = (more: object) => DeployRequest.parse({ bundle: `sha256:${'a'.repeat(64)}`, entry: 'index.mjs', settings: {}, ...more });
const deployElsewhere = (name: string, more: object = {}) =>
  harness.elsewhere('function.deploy', name, () => harness.platform.deploy('default', name, request(more), new AbortController().signal));

describe('an object', () => {
  it('is deployed as it says, once, and says where it is served', async () => {
    harness.start();
    await harness.create('hello', {
      source: HELLO,
      memory: '256Mi',
      timeout: '5s',
      env: { STAGE: 'prod' },
      routes: ['GET /hi'],
      message: 'abc',
    });
    await harness.untilSaid('hello', SERVED);
    const view = await harness.platform.describe('default', 'hello');
    expect(view.revision.settings).toMatchObject({ memoryMib: 256, timeoutSeconds: 5, env: { STAGE: 'prod' }, runtime: 'node' });
    expect(view.access.routes).toEqual([{ path: '/hi', methods: ['GET'] }]);
    expect(view.declaredBy).toMatchObject({ namespace: 'shop', name: 'hello', generation: 1, revision: 1 });
    expect(harness.status('hello')).toMatchObject({
      observedGeneration: 1,
      appliedGeneration: 1,
      revision: 'default/hello@1',
      url: 'http://localhost:8080/hello',
      digest: view.revision.bundle,
      namespace: 'default',
    });
    const patches = harness.kube.requests.get('patch');
    harness.changed('default', 'hello');
    await harness.quiet();
    expect(harness.kube.requests.get('patch')).toBe(patches);
    expect(deploys()).toBe(1);
    expect(await harness.events()).toEqual([expect.objectContaining({ type: 'Normal', reason: 'Applied', count: 1 })]);
    const [entry] = await harness.store.listAudit({ namespaces: '*', limit: 1 });
    expect(entry).toMatchObject({
      by: { id: 'kubernetes:shop/hello' },
      action: 'function.deploy',
      subject: 'hello',
      outcome: 'ok',
      detail: { revision: 1, generation: 1 },
    });
  });

  it('that changes is applied again; what concerns no revision makes none', async () => {
    harness.start();
    await harness.create('hello');
    await harness.untilSaid('hello', SERVED);
    await harness.change('hello', { env: { A: '1' } });
    await harness.until('revision 2', () => harness.status('hello').revision === 'default/hello@2');
    await harness.change('hello', { auth: 'token' });
    await harness.until('generation 3', () => harness.status('hello').appliedGeneration === 3);
    expect(harness.said('hello')).toBe(SERVED);
    expect(deploys()).toBe(2);
    expect((await harness.platform.describe('default', 'hello')).access.auth).toEqual({ type: 'token' });
    await harness.change('hello', { auth: null });
    await harness.until('generation 4', () => harness.status('hello').appliedGeneration === 4);
    expect((await harness.platform.describe('default', 'hello')).access.auth).toEqual({ type: 'public' });
  });

  it('that is deleted takes its function along, also where nobody watched', async () => {
    harness.start();
    await harness.create('hello');
    await harness.create('other');
    await harness.untilSaid('hello', SERVED);
    await harness.untilSaid('other', SERVED);
    harness.kube.remove(WHOLE_FUNCTIONS, 'shop', 'hello');
    await harness.until('hello is gone', () => !harness.platform.functions.has('default/hello'));
    await harness.stop();
    harness.kube.remove(WHOLE_FUNCTIONS, 'shop', 'other');
    harness.start();
    await harness.until('other is gone', () => harness.platform.functions.size === 0);
    const entries = await harness.store.listAudit({ namespaces: '*', limit: 2 });
    expect(entries.map(({ action, by }) => [action, by.id])).toEqual([
      ['function.delete', 'kubernetes:shop/other'],
      ['function.delete', 'kubernetes:shop/hello'],
    ]);
  });

  it('is not taken for deleted because it cannot be read', async () => {
    harness.start();
    await harness.create('hello');
    await harness.untilSaid('hello', SERVED);
    await harness.stop();
    harness.kube.fault = (verb) => {
      if (verb === 'list') throw new KubeError('the server could not find the requested resource', 404, 'NotFound');
    };
    harness.start();
    await harness.quiet();
    expect(harness.platform.functions.has('default/hello')).toBe(true);
    harness.kube.remove(WHOLE_FUNCTIONS, 'shop', 'hello');
    await harness.quiet();
    expect(harness.platform.functions.has('default/hello')).toBe(true);
  });

  it('that was made anew under its name goes on with the function that is there', async () => {
    harness.start();
    await harness.create('hello');
    await harness.untilSaid('hello', SERVED);
    await harness.stop();
    harness.kube.remove(WHOLE_FUNCTIONS, 'shop', 'hello');
    await harness.create('hello');
    harness.start();
    await harness.untilSaid('hello', SERVED);
    expect(deploys()).toBe(1);
    expect(harness.platform.calls).not.toContain('delete default/hello');
  });
});

describe('an object that is wrong', () => {
  it.each([
    ['a field', { source: HELLO, memory: 'lots' }, 'Invalid', '/spec/memory: must be whole MiB from 64 to 8192'],
    ['no source', { source: {} }, 'Invalid', '/spec/source: must have one of inline, archive, bundle, url; it has none'],
    ['two sources', { entry: 'a.mjs', source: { ...HELLO, bundle: `sha256:${'b'.repeat(64)}` } }, 'Invalid', 'it has inline and bundle'],
    ['an image', { source: HELLO, runtime: 'image' }, 'Invalid', '/spec/runtime: functions made of images cannot be declared'],
    ['a bundle that nobody uploaded', { entry: 'a.mjs', source: { bundle: `sha256:${'b'.repeat(64)}` } }, 'Invalid', '/spec/source'],
    ['no entry', { source: { bundle: `sha256:${'b'.repeat(64)}` } }, 'Invalid', '/spec/entry: is missing'],
    ['an archive that is none', { entry: 'a.mjs', source: { archive: 'aGVsbG8=' } }, 'Invalid', 'gzip'],
    ['a schedule', { source: HELLO, triggers: [{ cron: '61 * * * *' }] }, 'Invalid', '/spec/triggers/0'],
    [
      'types that cannot be stripped',
      { source: { inline: { files: { 'a.ts': 'enum A { B }' } } } },
      'Invalid',
      'a.ts: TypeScript enum is not supported',
    ],
    ['another namespace', { namespace: 'team', source: HELLO }, 'NamespaceNotAllowed', 'declared in default only'],
    [
      'a URL of a private address',
      { entry: 'a.mjs', source: { url: 'https://10.0.0.1/x', sha256: 'b'.repeat(64) } },
      'Forbidden',
      '10.0.0.1 may not be dialled',
    ],
  ])('is told of %s, deploys nothing', async (_what, spec, reason, message) => {
    harness.start();
    await harness.create('hello', spec);
    await harness.untilSaid('hello', `Ready=False ${reason}, Synced=False ${reason}`);
    expect(harness.message('hello')).toContain(message);
    expect(harness.message('hello').split(message)).toHaveLength(2);
    expect(harness.platform.functions.size).toBe(0);
    expect(await harness.events()).toContainEqual(expect.objectContaining({ type: 'Warning', reason }));
  });

  it('leaves what it was before serving, is tried again with pauses, and written to the audit log once', async () => {
    harness.start();
    await harness.create('hello');
    await harness.untilSaid('hello', SERVED);
    await harness.change('hello', { memory: 'lots' });
    await harness.untilSaid('hello', 'Ready=False Invalid, Synced=False Invalid');
    expect(harness.message('hello')).toContain('hello@1 keeps serving.');
    expect(harness.status('hello')).toMatchObject({ observedGeneration: 2, appliedGeneration: 1, revision: 'default/hello@1' });
    await harness.until('a second attempt', async () =>
      (await harness.events()).some(({ count, reason }) => reason === 'Invalid' && count === 2),
    );
    const failed = (await harness.store.listAudit({ namespaces: '*', limit: 50 })).filter(({ outcome }) => outcome === 'invalid');
    expect(failed).toHaveLength(1);
    await harness.change('hello', { memory: '256Mi' });
    await harness.untilSaid('hello', SERVED);
  });

  it('is told when packages are what it misses', async () => {
    const { FnError } = await import('#contract/errors.ts');
    harness.platform.deployGate = Promise.reject(
      new FnError('deploy-refused', "Cannot find package 'lodash' imported from /code/handler.mjs"),
    );
    // Refused when it is awaited: until then it is no rejection that nobody handles.
    harness.platform.deployGate.catch(() => {});
    harness.start();
    await harness.create('hello');
    await harness.untilSaid('hello', 'Ready=False DeployRefused, Synced=False DeployRefused');
    expect(harness.message('hello')).toContain('fn render makes an object with all that is imported');
  });

  it('is over the quota of its namespace', async () => {
    await harness.close();
    harness = await DeclaredHarness.open({ quota: { bundleBytes: 10 } });
    harness.start();
    await harness.create('hello');
    await harness.untilSaid('hello', 'Ready=False QuotaExceeded, Synced=False QuotaExceeded');
    expect(harness.message('hello')).toContain('quota bundleBytes');
  });
});

describe('a change from elsewhere', () => {
  beforeEach(async () => {
    harness.start();
    await harness.create('hello', { source: HELLO, env: { STAGE: 'prod' }, triggers: [{ cron: '@daily' }] });
    await harness.untilSaid('hello', SERVED);
  });

  it('goes through and is told: what, by whom, when, and how to get back', async () => {
    await deployElsewhere('hello', { settings: { env: { STAGE: 'hotfix' } } });
    await harness.untilSaid('hello', CHANGED);
    expect(harness.message('hello')).toMatch(
      /code, entry, env\.STAGE\. Changed by anna \(function\.deploy\) at 2026-\S+Z\. Nothing is set back by itself/,
    );
    expect(harness.message('hello')).toContain('kubectl -n shop annotate functions.fn.dev/hello fn.dev/reapply=');
    await harness.quiet();
    expect(harness.platform.functions.get('default/hello')?.traffic).toEqual([{ revision: 2, percent: 100 }]);
    expect((await harness.events()).filter(({ reason }) => reason === 'ChangedElsewhere')).toHaveLength(1);
  });

  it.each([
    [
      'traffic',
      'traffic (hello@1 90 %, hello@2 10 %)',
      async () => {
        await deployElsewhere('hello', { traffic: false });
        const traffic = [
          { revision: 1, percent: 90 },
          { revision: 2, percent: 10 },
        ];
        await harness.elsewhere('function.traffic', 'hello', () =>
          harness.platform.setTraffic('default', 'hello', traffic, null, new AbortController().signal),
        );
      },
    ],
    [
      'access',
      'auth, triggers.cron',
      async () => {
        const access = FunctionAccess.parse({ auth: { type: 'token' } });
        await harness.elsewhere('function.access', 'hello', () => harness.platform.setAccess('default', 'hello', access, null));
      },
    ],
  ])('of %s is told as well', async (_what, fields, change) => {
    await change();
    await harness.untilSaid('hello', CHANGED);
    expect(harness.message('hello')).toContain(`not what this object says: ${fields}. Changed by anna`);
  });

  it('that pauses a trigger, or only previews a revision, is none', async () => {
    const { access } = await harness.platform.describe('default', 'hello');
    const triggers = access.triggers.map((trigger) => ({ ...trigger, enabled: false }));
    await harness.elsewhere('trigger.enable', 'hello', () => harness.platform.setAccess('default', 'hello', { ...access, triggers }, null));
    await deployElsewhere('hello', { traffic: false });
    await harness.quiet();
    expect(harness.said('hello')).toBe(SERVED);
    await harness.change('hello', { memory: '256Mi' });
    await harness.until('generation 2', () => harness.status('hello').appliedGeneration === 2);
    expect((await harness.platform.describe('default', 'hello')).access.triggers[0]?.enabled).toBe(false);
  });

  it('is over when the object changes, or is to be applied again', async () => {
    await deployElsewhere('hello');
    await harness.untilSaid('hello', CHANGED);
    harness.annotate('hello', { 'fn.dev/reapply': '1' });
    await harness.untilSaid('hello', SERVED);
    expect(harness.status('hello')).toMatchObject({ revision: 'default/hello@3', appliedReapply: '1' });
    await deployElsewhere('hello');
    await harness.untilSaid('hello', CHANGED);
    await harness.change('hello', { memory: '256Mi' });
    await harness.untilSaid('hello', SERVED);
    expect(harness.status('hello').revision).toBe('default/hello@5');
  });

  it('is told by the next leader as well, who sets nothing back', async () => {
    await harness.stop();
    await deployElsewhere('hello');
    harness.start();
    await harness.untilSaid('hello', CHANGED);
    expect(deploys()).toBe(2);
  });

  it('that deletes the function is told, by the next leader too, and not undone; a new installation deploys', async () => {
    await harness.elsewhere('function.delete', 'hello', () => harness.platform.delete('default', 'hello'));
    await harness.untilSaid('hello', 'Ready=False Deleted, Synced=False ChangedElsewhere');
    expect(harness.message('hello')).toContain('The function default/hello was deleted by anna (function.delete)');
    await harness.stop();
    harness.start();
    await harness.quiet();
    expect(harness.platform.functions.size).toBe(0);
    await harness.stop();
    // Its store is a new one.
    harness.kube.change(WHOLE_FUNCTIONS, 'shop', 'hello', { status: { installation: 'another' } });
    harness.start();
    await harness.untilSaid('hello', SERVED);
  });
});

describe('a function that is there', () => {
  it('is left alone until the object says that it adopts it', async () => {
    await deployElsewhere('hello', { settings: { memoryMib: 512 } });
    harness.start();
    await harness.create('hello');
    await harness.untilSaid('hello', 'Ready=False ExistsAlready, Synced=False ExistsAlready');
    expect(harness.message('hello')).toContain('fn.dev/adopt=true');
    expect(deploys()).toBe(1);
    harness.kube.remove(WHOLE_FUNCTIONS, 'shop', 'hello');
    await harness.quiet();
    expect(harness.platform.functions.has('default/hello')).toBe(true);
    await harness.create('hello');
    await harness.untilSaid('hello', 'Ready=False ExistsAlready, Synced=False ExistsAlready');
    harness.annotate('hello', { 'fn.dev/adopt': 'true' });
    await harness.untilSaid('hello', SERVED);
    expect(harness.status('hello').revision).toBe('default/hello@2');
  });

  it('is the older one’s where two objects declare it, and the other’s when that is gone', async () => {
    await harness.close();
    const both = [
      { kubeNamespace: 'shop', namespace: 'default' },
      { kubeNamespace: 'team', namespace: 'default' },
    ];
    harness = await DeclaredHarness.open({ declared: both });
    harness.start();
    await harness.create('hello', undefined, { age: 1 });
    await harness.create('hello', undefined, { namespace: 'team', age: 2 });
    await harness.untilSaid('hello', SERVED);
    await harness.untilSaid('hello', 'Ready=False DeclaredTwice, Synced=False DeclaredTwice', 'team');
    expect(harness.message('hello', 'team')).toContain('shop/hello, which is older, declares the function default/hello');
    harness.kube.remove(WHOLE_FUNCTIONS, 'shop', 'hello');
    await harness.untilSaid('hello', SERVED, 'team');
    expect(harness.platform.calls).not.toContain('delete default/hello');
    expect((await harness.platform.describe('default', 'hello')).declaredBy).toMatchObject({ namespace: 'team' });
  });

  it('of a namespace that is watched no more stays', async () => {
    harness.start();
    await harness.create('hello');
    await harness.untilSaid('hello', SERVED);
    await harness.stop();
    const again = await DeclaredHarness.open({ declared: [{ kubeNamespace: 'other', namespace: 'default' }] });
    try {
      for (const [key, one] of harness.platform.functions) again.platform.functions.set(key, one);
      again.start();
      await again.quiet();
      expect(again.platform.functions.has('default/hello')).toBe(true);
    } finally {
      await again.close();
    }
  });
});

describe('where the code comes from', () => {
  it('may be an archive as fn deploy uploads it, or a bundle that was uploaded for the namespace', async () => {
    const packed = await archive([{ name: 'index.mjs', contents: Buffer.from('export default { fetch() {} };') }]);
    harness.start();
    await harness.create('hello', { entry: 'index.mjs', source: { archive: packed.bytes.toString('base64') } });
    await harness.untilSaid('hello', SERVED);
    expect(harness.status('hello').digest).toBe(packed.digest);
    await harness.create('other', { entry: 'index.mjs', source: { bundle: packed.digest } });
    await harness.untilSaid('other', SERVED);
    await harness.create('wrong', { entry: 'nope.mjs', source: { bundle: packed.digest } });
    await harness.untilSaid('wrong', 'Ready=False Invalid, Synced=False Invalid');
    expect(harness.message('wrong')).toContain('/spec/entry: is not a file of the bundle');
  });
});

it('an API server that is away while it is applied is told of it later, and nothing is deployed twice', async () => {
  harness.start();
  let away = true;
  harness.kube.fault = (verb) => {
    if (away && verb.startsWith('patch')) throw new KubeUnreachable('refused');
  };
  await harness.create('hello');
  await harness.quiet();
  away = false;
  await harness.untilSaid('hello', SERVED);
  expect(deploys()).toBe(1);
});

it('the digest of inline code is the same for the same files', async () => {
  const { inlineBundle } = await import('./inline.ts');
  const files = {
    'handler.ts': "import { a } from './lib/a.ts';\nexport default { fetch: (r: Request) => new Response(a) };",
    'lib/a.ts': 'export const a: string = "x";',
  };
  const [one, two] = await Promise.all([inlineBundle(files, { entry: 'handler.ts' }), inlineBundle({ ...files }, { entry: 'handler.ts' })]);
  expect(one.digest).toBe(two.digest);
  expect(one).toMatchObject({
    entry: 'handler.mjs',
    runtime: 'node',
    digest: `sha256:${createHash('sha256').update(one.bytes).digest('hex')}`,
  });
});
