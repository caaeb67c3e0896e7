/**
 * The chart on a real cluster: installed from a package, tried as its notes say, upgraded and rolled back under load, and
 * removed without a trace.
 */
import { chmod, mkdir, mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { CHART } from '../helpers/chart.ts';
import { useCluster } from '../helpers/cluster.ts';
import { type Cluster, findTool } from '../helpers/kube.ts';
import { judge, Load } from '../helpers/load.ts';
import { buildPlatformImages } from '../helpers/platform-images.ts';
import { freePort } from '../helpers/platform.ts';
import { ROOT } from '../helpers/root.ts';
import { sleep, waitFor } from '../helpers/wait.ts';

const RELEASE = 'fn';
/** Of the package that is installed first: the chart as it is, by another version. */
const PREVIOUS = '0.0.1';
const INSTALL_TIMEOUT_MS = 240_000;
const ROLL_TIMEOUT_MS = 240_000;

const Names = z.object({ items: z.array(z.object({ metadata: z.object({ name: z.string(), uid: z.string() }) })) });
const Secrets = z.object({
  items: z.array(z.object({ metadata: z.object({ name: z.string() }), data: z.record(z.string(), z.string()).default({}) })),
});

const suite = useCluster();
let cluster: Cluster;
let namespace: string;
let functions: string;
let folder: string;
let values: Record<string, unknown>;
let before: Set<string>;

const image = (text: string) => {
  const [repository, tag] = text.split(':');
  return { repository, tag };
};

/** Kinds of what is not the release's: it goes by itself, or the cluster makes it for every namespace. */
const NOT_OURS = /^(?:events|events\.events\.k8s\.io|endpointslices|leases\.coordination\.k8s\.io\/kube-node-lease)/;

/** Every object of the cluster that is in a namespace of the release or names it: `pods chart-1/fn-gateway-0`. */
async function objects(): Promise<string[]> {
  const list = async (namespaced: boolean) =>
    (await cluster.kubectl(['api-resources', '--verbs=list', `--namespaced=${namespaced}`, '--output=name'])).trim().split('\n');
  const Items = z.object({
    items: z.array(
      z.object({
        kind: z.string(),
        metadata: z.object({
          name: z.string(),
          namespace: z.string().optional(),
          annotations: z.record(z.string(), z.string()).default({}),
        }),
      }),
    ),
  });
  const kinds = async (namespaced: boolean) => (await list(namespaced)).filter((kind) => !NOT_OURS.test(kind)).join(',');
  const read = async (namespaced: boolean) =>
    (await cluster.get(Items, [await kinds(namespaced), ...(namespaced ? ['--all-namespaces'] : [])])).items;
  const found = [...(await read(true)), ...(await read(false))];
  const ours = ({ metadata }: (typeof found)[number]): boolean =>
    metadata.namespace === namespace ||
    metadata.namespace === functions ||
    metadata.name === functions ||
    metadata.annotations['meta.helm.sh/release-namespace'] === namespace;
  return found.filter(ours).map(({ kind, metadata }) => `${kind} ${metadata.namespace ?? ''}/${metadata.name}`);
}

const pods = async (component: string): Promise<string[]> =>
  (await cluster.get(Names, ['pods', '--namespace', namespace, '--selector', `app.kubernetes.io/component=${component}`])).items.map(
    ({ metadata }) => metadata.uid,
  );

const everyPod = async (): Promise<string[]> => (await Promise.all(['gateway', 'controller', 'redis'].map(pods))).flat();

const secrets = async () => {
  const { items } = await cluster.get(Secrets, [
    'secrets',
    '--namespace',
    namespace,
    '--selector',
    `app.kubernetes.io/instance=${RELEASE}`,
  ]);
  return Object.fromEntries(items.map(({ metadata, data }) => [metadata.name, data]));
};

/** Where functions are called from here: a port of a node. */
async function gatewayUrl(): Promise<string> {
  const Nodes = z.object({
    items: z.array(z.object({ status: z.object({ addresses: z.array(z.object({ type: z.string(), address: z.string() })) }) })),
  });
  const Service = z.object({ spec: z.object({ ports: z.array(z.object({ nodePort: z.number() })) }) });
  const nodes = await cluster.get(Nodes, ['nodes']);
  const { spec } = await cluster.get(Service, ['service', `${RELEASE}-gateway`, '--namespace', namespace]);
  const address = nodes.items[0]?.status.addresses.find(({ type }) => type === 'InternalIP')?.address;
  return `http://${address}:${spec.ports[0]?.nodePort}`;
}

const helm = (args: string[], timeoutMs: number, given: Record<string, unknown> = values) =>
  cluster.helm([...args, '--namespace', namespace, '--values', '-', '--wait', '--timeout', `${Math.floor(timeoutMs / 1_000) - 10}s`], {
    input: JSON.stringify(given),
    timeoutMs,
  });

/** Runs the block of the notes after a heading, as who pastes it would; its stdout. */
async function paste(heading: string): Promise<string> {
  const notes = await cluster.helm(['get', 'notes', RELEASE, '--namespace', namespace]);
  const block = notes.slice(notes.indexOf(heading)).split('\n').slice(2);
  const end = block.findIndex((line) => !line.startsWith('  '));
  let script = block.slice(0, end === -1 ? undefined : end).join('\n');
  expect(script).toContain('fn deploy');
  // Of the machine of whoever pastes it: others may listen there.
  for (const port of [7_070, 8_080]) {
    const free = await freePort();
    script = script.replaceAll(` ${port}:`, ` ${free}:`).replaceAll(`127.0.0.1:${port}`, `127.0.0.1:${free}`);
  }
  const work = join(folder, 'pasted');
  await mkdir(work);
  const shell = execa('sh', ['-ec', script], {
    cwd: work,
    env: {
      HOME: folder,
      XDG_CONFIG_HOME: join(folder, 'config'),
      KUBECONFIG: cluster.kubeconfig,
      PATH: `${join(folder, 'bin')}:${process.env.PATH}`,
    },
    // Without what the run sets for other tests, such as a home.
    extendEnv: false,
    timeout: 150_000,
    // A group of its own, with what it leaves in the background.
    detached: true,
  });
  shell.once('exit', () => process.kill(-shell.pid!, 'SIGTERM'));
  const { stdout } = await shell;
  return stdout;
}

/** Load on a warm function while something is changed: over connections that are kept, and over new ones. */
async function underLoad(change: () => Promise<unknown>): Promise<void> {
  const url = `${await gatewayUrl()}/hello`;
  const options = { url: () => url, connections: 3, pauseMs: 20, timeoutMs: 60_000 };
  const loads = [new Load(options), new Load({ ...options, agentKeepAlive: false })];
  const from = performance.now();
  try {
    await sleep(1_000);
    await change();
    await sleep(3_000);
  } finally {
    const entries = (await Promise.all(loads.map((load) => load.stop()))).flat();
    const { failed, sent, goodTail } = judge(entries, { faultAt: from });
    expect(failed).toEqual({});
    expect(sent).toBeGreaterThan(200);
    expect(goodTail).toBeGreaterThan(200);
  }
}

beforeAll(async () => {
  cluster = suite();
  const images = await buildPlatformImages('gateway', 'controller', 'cli', 'redis', 'node');
  await cluster.loadImages(...Object.values(images));
  namespace = await suite.namespace('chart');
  functions = `${namespace}-${RELEASE}-functions`;
  folder = await mkdtemp(join(tmpdir(), 'fn-chart-'));
  await mkdir(join(folder, 'bin'));
  await chmod(folder, 0o755);
  await symlink(join(ROOT, 'fn'), join(folder, 'bin', 'fn'));
  await symlink(findTool('kubectl'), join(folder, 'bin', 'kubectl'));
  before = new Set(await objects());
  const small = { requests: { cpu: '20m', memory: '96Mi' }, limits: { memory: '512Mi' } };
  values = {
    images: {
      gateway: image(images.gateway),
      controller: image(images.controller),
      cli: image(images.cli),
      redis: image(images.redis),
    },
    runtimes: { node: image(images.node) },
    gateway: { service: { type: 'NodePort' }, resources: small, minReadySeconds: 1 },
    controller: { resources: small, minReadySeconds: 1, config: { FN_MEMORY_BUDGET_MIB: 1_024, FN_POOL: 1 } },
    redis: { resources: small },
    test: { resources: small },
  };
}, 900_000);

afterAll(async () => {
  // Where a test failed before it was removed; what is cluster-wide does not go with the namespace.
  await cluster?.run('helm', ['uninstall', RELEASE, '--namespace', namespace, '--wait', '--timeout', '60s'], { mayFail: true });
  await cluster?.deleteNamespaces(functions);
  if (folder !== undefined) await rm(folder, { recursive: true, force: true });
});

describe('the chart', () => {
  it('is taken by this version of Kubernetes with all that can be switched on', async () => {
    const all = {
      ...values,
      functions: { namespace: namespace.replace('chart', 'other'), create: false, resourceQuota: { hard: { pods: '10' } } },
      gateway: { autoscaling: { enabled: true }, service: { type: 'LoadBalancer' } },
      ingress: { enabled: true, hosts: ['fn.example.com'] },
      tls: { enabled: true, secrets: ['certificate'] },
      metrics: { dashboard: { enabled: true } },
      crds: { install: false },
    };
    // Of the functions' namespace, which is not there, the release's own stands in.
    const { major, minor } = z
      .object({ serverVersion: z.object({ major: z.string(), minor: z.string() }) })
      .parse(JSON.parse(await cluster.kubectl(['version', '--output=json']))).serverVersion;
    const kube = `${major}.${minor.replace(/\D/g, '')}`;
    const text = await cluster.helm(['template', 'dry', CHART, '--namespace', namespace, '--kube-version', kube, '--values', '-'], {
      input: JSON.stringify(all),
    });
    const manifests = text.replaceAll(`namespace: ${all.functions.namespace}`, `namespace: ${namespace}`);
    const said = await cluster.kubectl(['apply', '--dry-run=server', '--validate=true', '--filename', '-'], { input: manifests });
    expect(said.match(/created \(server dry run\)/g)?.length).toBeGreaterThan(25);
  });

  it('installs, and says so when all is ready', { timeout: INSTALL_TIMEOUT_MS }, async () => {
    await cluster.helm(['package', CHART, '--version', PREVIOUS, '--destination', folder]);
    await helm(['install', RELEASE, join(folder, `fn-${PREVIOUS}.tgz`)], INSTALL_TIMEOUT_MS);
    expect([(await pods('gateway')).length, (await pods('controller')).length, (await pods('redis')).length]).toEqual([2, 2, 1]);
    const leaders = await cluster.get(Names, ['pods', '--namespace', namespace, '--selector', 'fn.dev/role=leader']);
    expect(leaders.items).toHaveLength(1);
  });

  it('passes helm test: a function is deployed and called through the gateway', { timeout: INSTALL_TIMEOUT_MS }, async () => {
    const { stdout } = await cluster.run('helm', ['test', RELEASE, '--namespace', namespace, '--timeout', '200s'], {
      timeoutMs: INSTALL_TIMEOUT_MS,
    });
    expect(stdout).toMatch(/Phase:\s+Succeeded/);
  });

  it('has notes whose commands can be pasted', { timeout: INSTALL_TIMEOUT_MS }, async () => {
    expect(await paste('Your first function')).toMatch(/hello from Kubernetes$/);
  });

  it("is upgraded from its package without losing a request: every pod is another, Redis's too", { timeout: ROLL_TIMEOUT_MS }, async () => {
    const [were, made] = await Promise.all([everyPod(), secrets()]);
    await underLoad(() =>
      helm(['upgrade', RELEASE, CHART], ROLL_TIMEOUT_MS, {
        ...values,
        gateway: { ...Object(values.gateway), podAnnotations: { rolled: 'once' }, config: { FN_LOG_LEVEL: 'debug' } },
        controller: { ...Object(values.controller), podAnnotations: { rolled: 'once' } },
        // Away for some seconds, which warm requests do not notice.
        redis: { ...Object(values.redis), podAnnotations: { rolled: 'once' } },
      }),
    );
    await waitFor(
      'the pods that were to be gone',
      async () => {
        const now = await everyPod();
        return now.length === were.length && were.every((uid) => !now.includes(uid));
      },
      { timeoutMs: 60_000 },
    );
    // What was made at the install is what it was.
    expect(await secrets()).toEqual(made);
    expect(Object.keys(made).toSorted()).toEqual(['fn-api-token', 'fn-link-tls', 'fn-link-token', 'fn-redis', 'fn-secret-key']);
  });

  it('is rolled back without losing a request', { timeout: ROLL_TIMEOUT_MS }, async () => {
    const made = await secrets();
    await underLoad(() =>
      cluster.helm(['rollback', RELEASE, '1', '--namespace', namespace, '--wait', '--timeout', '200s'], { timeoutMs: ROLL_TIMEOUT_MS }),
    );
    expect(await secrets()).toEqual(made);
    expect(await cluster.helm(['list', '--namespace', namespace])).toContain(`fn-${PREVIOUS}`);
  });

  it('is removed and leaves nothing: no object, no volume, no pod of a function', { timeout: 180_000 }, async () => {
    expect((await cluster.get(Names, ['pods', '--namespace', functions])).items.length).toBeGreaterThan(0);
    await cluster.helm(['uninstall', RELEASE, '--namespace', namespace, '--wait', '--timeout', '150s'], { timeoutMs: 170_000 });
    await waitFor(
      'all of it to be gone',
      async () => {
        const left = (await objects()).filter((one) => !before.has(one));
        if (left.length > 0) throw new Error(left.join(', '));
        return true;
      },
      { timeoutMs: 90_000, everyMs: 1_000 },
    );
  });
});
