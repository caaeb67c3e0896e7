/**
 * On a cluster: cold starts beside a plain Deployment of the same function that is scaled from zero to one, which is what Knative and
 * OpenFaaS do; warm requests beside the pod's own port; how fast pools fill; what the API server is asked. The gateway and the
 * controller run on this host, the instances are pods. The figures of Fission that are cited are its own.
 */
import { request as httpRequest } from 'node:http';
import { readFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { ROOT } from '../helpers/root.ts';
import type { TestPlatform } from '../helpers/platform.ts';
import { nodeImage } from '../helpers/runtime-images.ts';
import { sleep, waitFor } from '../helpers/wait.ts';
import { type BenchContext, HELLO, type Measurement, allCold, quiet, rounds, timed } from './context.ts';
import { addedLatency } from './added-latency.ts';
import type { GeneratorJob } from './generator.ts';
import { cpuMicros } from './host.ts';
import { KubeRequests } from './kube-api.ts';
import { type Figure, atMost } from './report.ts';
import { median, spread, summarise } from './stats.ts';

const FUNCTIONS = 10;
/** Of those, after each so many one Deployment is scaled, so that both see the same machine. */
const SAMPLES_PER_PLAIN = 5;
/** How often a Deployment that comes up is asked, ms: what asks it more often takes CPU from it. */
const ASK_EVERY_MS = 10;
const PLAIN_TIMEOUT_MS = 60_000;
const FISSION = 'Fission publishes 73–116 ms p50 for its pool manager, on machines of its own';

interface PodList {
  items: { metadata: { name: string; deletionTimestamp?: string }; status: { podIP?: string } }[];
}

/** The same function without the platform: a Deployment and a Service, as one writes them by hand. */
class PlainDeployment {
  readonly #api: KubeRequests;
  readonly #namespace: string;
  readonly #ip: string;

  private constructor(api: KubeRequests, namespace: string, ip: string) {
    this.#api = api;
    this.#namespace = namespace;
    this.#ip = ip;
  }

  static async create(api: KubeRequests, namespace: string): Promise<PlainDeployment> {
    // The bare server of the other measurements, listening for others too: the function does nothing else.
    const server = readFileSync(join(ROOT, 'test/bench/fixtures/bare.mjs'), 'utf8').replace(
      "listen(0, '127.0.0.1'",
      "listen(8080, '0.0.0.0'",
    );
    const image = await nodeImage();
    const labels = { app: 'plain' };
    const metadata = { name: 'plain', namespace };
    const core = `/api/v1/namespaces/${namespace}`;
    await api.send('POST', `${core}/configmaps`, { apiVersion: 'v1', kind: 'ConfigMap', metadata, data: { 'server.mjs': server } });
    const container = {
      name: 'function',
      image,
      imagePullPolicy: 'IfNotPresent',
      command: ['node', '/code/server.mjs'],
      ports: [{ containerPort: 8080 }],
      resources: { requests: { memory: '128Mi', cpu: '20m' }, limits: { memory: '128Mi' } },
      volumeMounts: [{ name: 'code', mountPath: '/code' }],
    };
    const spec = {
      terminationGracePeriodSeconds: 0,
      automountServiceAccountToken: false,
      enableServiceLinks: false,
      securityContext: { runAsNonRoot: true, runAsUser: 65_532 },
      containers: [container],
      volumes: [{ name: 'code', configMap: { name: 'plain' } }],
    };
    await api.send('POST', `/apis/apps/v1/namespaces/${namespace}/deployments`, {
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata,
      spec: { replicas: 0, selector: { matchLabels: labels }, template: { metadata: { labels }, spec } },
    });
    const service = await api.send<{ spec: { clusterIP: string } }>('POST', `${core}/services`, {
      apiVersion: 'v1',
      kind: 'Service',
      metadata,
      spec: { selector: labels, ports: [{ port: 80, targetPort: 8080 }] },
    });
    return new PlainDeployment(api, namespace, service.spec.clusterIP);
  }

  async #scale(replicas: number): Promise<void> {
    const path = `/apis/apps/v1/namespaces/${this.#namespace}/deployments/plain/scale`;
    await this.#api.send('PATCH', path, { spec: { replicas } }, 'application/merge-patch+json');
  }

  /** From the request to scale it up to the first 200 of its Service, ms; then it is at zero again. */
  async coldStart(): Promise<number> {
    const begun = performance.now();
    await this.#scale(1);
    while (!(await answers(this.#ip))) {
      if (performance.now() - begun > PLAIN_TIMEOUT_MS) throw new Error(`the Deployment did not answer within ${PLAIN_TIMEOUT_MS} ms`);
      await sleep(ASK_EVERY_MS);
    }
    const took = performance.now() - begun;
    await this.#scale(0);
    const pods = `/api/v1/namespaces/${this.#namespace}/pods?labelSelector=app%3Dplain`;
    await waitFor('the Deployment to be at zero', async () => (await this.#api.send<PodList>('GET', pods)).items.length === 0, {
      timeoutMs: PLAIN_TIMEOUT_MS,
      everyMs: 100,
    });
    return took;
  }
}

/** Whether a server is there and says 200. */
function answers(host: string): Promise<boolean> {
  return new Promise((resolve) => {
    const request = httpRequest({ host, port: 80, agent: false, timeout: 1_000 }, (response) => {
      response.resume();
      resolve(response.statusCode === 200);
    });
    request.on('timeout', () => request.destroy());
    request.on('error', () => resolve(false));
    request.end();
  });
}

/** The cluster's API, and a namespace for what is compared; both are given back when the platforms have ended. */
async function withCluster<T>(context: BenchContext, work: (api: KubeRequests, namespace: string) => Promise<T>): Promise<T> {
  const { cluster } = clusterOf(context.platform);
  const api = await KubeRequests.open(cluster.kubeconfig);
  context.defer(() => api.close());
  const namespace = await cluster.namespace('bench');
  context.defer(() => cluster.deleteNamespaces(namespace));
  return work(api, namespace);
}

function clusterOf(platform: TestPlatform): NonNullable<TestPlatform['cluster']> {
  if (platform.cluster === null) throw new Error('the platform has no cluster: --driver kubernetes');
  return platform.cluster;
}

async function deployAll(platform: TestPlatform, prefix: string, count: number): Promise<void> {
  for (let index = 0; index < count; index++)
    await platform.deploy(`${prefix}-${index}`, HELLO, { flags: ['--keep-alive', '0', '--memory', '128'] });
}

async function coldBesideDeployment(context: BenchContext): Promise<Figure[]> {
  const { platform } = context;
  await deployAll(platform, 'pooled', FUNCTIONS);
  return withCluster(context, async (api, namespace) => {
    const plain = await PlainDeployment.create(api, namespace);
    // The first of each finds nothing that is cached: it is no sample.
    await plain.coldStart();
    const ours: number[] = [];
    const inits: number[] = [];
    const theirs: number[] = [];
    let full = 0;
    for (let round = 0; round < rounds(context, 10); round++) {
      for (let index = 0; index < FUNCTIONS; index++) {
        await allCold(platform, 'pooled-');
        await quiet(platform, 1);
        await timed(platform, '/.fn/none');
        const { answer, timing } = await timed(platform, `/pooled-${index}`);
        if (answer.status !== 200) throw new Error(`a cold start answered ${answer.status}: ${answer.text}`);
        if (timing.start === 'pooled') {
          ours.push(answer.ms);
          inits.push(timing.phases.init ?? Number.NaN);
        } else full++;
        if (index % SAMPLES_PER_PLAIN === SAMPLES_PER_PLAIN - 1) theirs.push(await plain.coldStart());
      }
      context.say(`cold: ${ours.length} samples, p50 ${median(ours).toFixed(1)} ms; Deployment 0→1 ${median(theirs).toFixed(0)} ms`);
    }
    const [fn, deployment] = [summarise(ours), summarise(theirs)];
    const group = 'kube-cold';
    const noneFree = full > 0 ? `; ${full} found no generic pod and are not counted` : '';
    return [
      {
        group,
        what: 'pooled cold start through the gateway, p50',
        unit: 'ms',
        value: fn.p50,
        spread: spread(ours),
        against: { what: 'Deployment 0→1 to its first 200', value: deployment.p50 },
        ratio: fn.p50 / deployment.p50,
        mark: atMost(fn.p50, 25, 'ms'),
        note: `${fn.samples} and ${deployment.samples} samples, taking turns${noneFree}. ${FISSION}`,
      },
      { group, what: '… p99', unit: 'ms', value: fn.p99, against: { what: 'Deployment 0→1, p99', value: deployment.p99 } },
      { group, what: '… of it specialising (claim, code, load)', unit: 'ms', value: median(inits) },
    ];
  });
}

async function fullBesideDeployment(context: BenchContext): Promise<Figure[]> {
  const platform = await context.start({ FN_POOL: '0' });
  await platform.deploy('full', HELLO, { flags: ['--keep-alive', '0', '--memory', '128'] });
  return withCluster(context, async (api, namespace) => {
    const plain = await PlainDeployment.create(api, namespace);
    await plain.coldStart();
    const [ours, theirs]: [number[], number[]] = [[], []];
    for (let round = 0; round < rounds(context, 12); round++) {
      await allCold(platform, 'full');
      await quiet(platform, 0);
      const { answer, timing } = await timed(platform, '/full');
      if (answer.status !== 200 || timing.start !== 'full')
        throw new Error(`a full start: ${answer.status} ${timing.start} ${answer.text}`);
      ours.push(answer.ms);
      theirs.push(await plain.coldStart());
    }
    context.say(`full cold start: ${median(ours).toFixed(0)} ms; Deployment 0→1 ${median(theirs).toFixed(0)} ms`);
    return [
      {
        group: 'kube-full',
        what: 'full cold start (no generic pod), p50',
        unit: 'ms',
        value: median(ours),
        spread: spread(ours),
        against: { what: 'Deployment 0→1 to its first 200', value: median(theirs) },
        ratio: median(ours) / median(theirs),
        note: `${ours.length} rounds, taking turns`,
      },
    ];
  });
}

async function warmBesidePod(context: BenchContext): Promise<Figure[]> {
  const { platform } = context;
  const name = 'warm';
  await platform.deploy(name, HELLO, { flags: ['--min', '1', '--max', '1', '--concurrency', '100', '--cpu', '2', '--memory', '256'] });
  await timed(platform, `/${name}`);
  const { cluster, namespace } = clusterOf(platform);
  const instance = await waitFor('the instance', async () => (await platform.instances(name))[0]);
  const api = await KubeRequests.open(cluster.kubeconfig);
  const selector = encodeURIComponent(`fn.dev/instance=${instance.id}`);
  const pods = await api.send<PodList>('GET', `/api/v1/namespaces/${namespace}/pods?labelSelector=${selector}`);
  api.close();
  const host = pods.items[0]?.status.podIP;
  if (host === undefined) throw new Error(`the pod of ${instance.id} has no address`);
  const job = { connections: 1, durationMs: 2_000, warmUpMs: 500 };
  const gateway: GeneratorJob = { ...job, target: { port: platform.port }, path: `/${name}` };
  const pod: GeneratorJob = { ...job, target: { port: INSTANCE_PORT, host }, path: '/', headers: { 'fn-instance': instance.id } };
  return addedLatency(
    context,
    { gateway, instance: pod },
    { group: 'kube-warm', direct: 'the pod’s own port', rounds: rounds(context, 9), limitMs: { p50: 0.5, p99: null } },
  );
}

/** Where shims listen: pods.port of controller/kube/settings.ts. */
const INSTANCE_PORT = 9_871;

/** Generic pods of the pool that is emptied and filled. */
const POOL = 12;

async function refill(context: BenchContext): Promise<Figure[]> {
  const platform = await context.start({ FN_POOL: String(POOL), FN_MAX_CREATES: String(POOL), FN_MEMORY_BUDGET_MIB: '8192' });
  await deployAll(platform, 'refill', POOL);
  const rates: number[] = [];
  const firsts: number[] = [];
  for (let round = 0; round < rounds(context, 6); round++) {
    await allCold(platform, 'refill-');
    await quiet(platform, POOL);
    const begun = performance.now();
    const answers = await Promise.all(Array.from({ length: POOL }, (_, index) => timed(platform, `/refill-${index}`)));
    firsts.push(...answers.map(({ answer }) => answer.ms));
    const generic = async () => (await platform.status()).instances.filter(({ state }) => state === 'generic').length >= POOL;
    await waitFor(`a pool of ${POOL}`, generic, { timeoutMs: 180_000, everyMs: 50 });
    rates.push((POOL * 1_000) / (performance.now() - begun));
  }
  context.say(`pool refill: ${median(rates).toFixed(1)} instances/s`);
  const group = 'kube-refill';
  return [
    {
      group,
      what: 'pool refill',
      unit: '1/s',
      value: median(rates),
      spread: spread(rates),
      note: `${POOL} claims at once, from the first of them until the pool has ${POOL} again; of one node that has ${cpus().length} cores for all of the cluster and fn`,
    },
    { group, what: `${POOL} pooled cold starts at once, p50`, unit: 'ms', value: median(firsts), spread: spread(firsts) },
  ];
}

/** Time without traffic that shows what is asked and used anyway, ms. */
const BASE_MS = 10_000;

async function requestsPerColdStart(context: BenchContext): Promise<Figure[]> {
  return withCluster(context, async (api, namespace) => {
    const proxy = await api.startProxy();
    context.defer(() => proxy.close());
    const settings = { kubeconfig: proxy.kubeconfig, namespace, networkPolicies: 'unfiltered' };
    const platform = await context.start({ FN_KUBERNETES: JSON.stringify(settings) });
    await deployAll(platform, 'asked', FUNCTIONS);
    await allCold(platform, 'asked-');
    await quiet(platform, 3);
    const pids = [await platform.pid('controller'), await platform.pid('gateway')];
    const cpu = () => pids.map(cpuMicros);
    const [base, baseFrom] = [cpu(), proxy.passed.length];
    await sleep(BASE_MS);
    const idle = cpu().map((micros, index) => (micros - base[index]!) / BASE_MS);
    const idleRequests = (proxy.passed.length - baseFrom) / BASE_MS;
    const onPath = new Map<string, number>();
    const after = new Map<string, number>();
    const [before, begun, from] = [cpu(), performance.now(), proxy.passed.length];
    const spans: [number, number][] = [];
    for (let round = 0; round < rounds(context, 3); round++) {
      for (let index = 0; index < FUNCTIONS; index++) {
        await allCold(platform, 'asked-');
        await quiet(platform, 1);
        const sent = performance.now();
        const { answer, timing } = await timed(platform, `/asked-${index}`);
        if (answer.status !== 200) throw new Error(`a cold start answered ${answer.status}: ${answer.text}`);
        if (timing.start === 'pooled') spans.push([sent, performance.now()]);
      }
    }
    await allCold(platform, 'asked-');
    await quiet(platform, 3);
    const ms = performance.now() - begun;
    const count = spans.length;
    const micros = cpu().map((now, index) => (now - before[index]! - idle[index]! * ms) / count);
    for (const { at, what } of proxy.passed.slice(from)) {
      const during = spans.some(([sent, answered]) => at >= sent && at <= answered) ? onPath : after;
      during.set(what, (during.get(what) ?? 0) + 1);
    }
    const sum = (map: Map<string, number>) => [...map.values()].reduce((total, each) => total + each, 0);
    const words = (map: Map<string, number>) =>
      [...map]
        .toSorted(([, a], [, b]) => b - a)
        .map(([what, n]) => `${what} ${(n / count).toFixed(2)}`)
        .join(', ') || 'none';
    const group = 'kube-requests';
    context.say(`per cold start: on the path ${words(onPath)}; after it ${words(after)}`);
    return [
      {
        group,
        what: 'API-server requests per cold start, on the path',
        unit: 'requests',
        value: sum(onPath) / count,
        note: `${count} cold starts; begun while the client waited: ${words(onPath)}`,
      },
      {
        group,
        what: '… after it (refill, logs, delete)',
        unit: 'requests',
        value: (sum(after) - idleRequests * ms) / count,
        note: `${words(after)}; the requests of an idle platform (${(idleRequests * 1_000).toFixed(2)} per second) are taken off`,
      },
      { group, what: 'CPU of the controller per cold start, refill included', unit: 'µs', value: micros[0]! },
      { group, what: 'CPU of the gateway per cold start', unit: 'µs', value: micros[1]! },
    ];
  });
}

export const kubeCold: Measurement = { group: 'kube-cold', run: coldBesideDeployment };
export const kubeFull: Measurement = { group: 'kube-full', run: fullBesideDeployment };
export const kubeWarm: Measurement = { group: 'kube-warm', run: warmBesidePod };
export const kubeRefill: Measurement = { group: 'kube-refill', run: refill };
export const kubeRequests: Measurement = { group: 'kube-requests', run: requestsPerColdStart };
