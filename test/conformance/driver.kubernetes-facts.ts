/** What holds of the kubernetes driver alone, on a real cluster. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { parse, stringify } from 'yaml';
import { z } from 'zod';
import { newSecret } from '#kit/ids.ts';
import { silentLog } from '#kit/log.ts';
import type { HomePaths } from '#kit/paths.ts';
import { ClaimLost, DriverUnavailable, type DriverInstance, type Exit, type Leaving } from '../../controller/driver/types.ts';
import { createKubernetesDriver } from '../../controller/driver/kubernetes/driver.ts';
import { createKubeApi } from '../../controller/kube/api.ts';
import type { KubernetesSettings } from '../../controller/kube/settings.ts';
import type { KubeApi } from '../../controller/kube/types.ts';
import type { SuiteCluster } from '../helpers/cluster.ts';
import { startTcpProxy } from '../helpers/tcp-proxy.ts';
import { waitFor } from '../helpers/wait.ts';
import { call, healthOf, init } from './driver.instance.ts';
import { Bench, type DriverHarness } from './driver.suite.ts';

export interface KubernetesFacts {
  api: KubeApi;
  images: Record<string, string>;
  kubeconfig: string;
  cluster: SuiteCluster;
  namespace: () => string;
  settingsOf: (paths: HomePaths) => KubernetesSettings;
  harness: DriverHarness;
}

const Kubeconfig = z.looseObject({
  clusters: z.array(z.looseObject({ cluster: z.looseObject({ server: z.string() }) })),
  users: z.array(z.looseObject({ user: z.looseObject({}) })),
});
type Kubeconfig = z.infer<typeof Kubeconfig>;

const PodSeen = z.looseObject({
  metadata: z.looseObject({ labels: z.record(z.string(), z.string()), ownerReferences: z.array(z.looseObject({ kind: z.string() })) }),
  spec: z.looseObject({ volumes: z.array(z.looseObject({ name: z.string() })), containers: z.array(z.looseObject({})) }),
});
const Self = z.object({ status: z.string(), mounts: z.string(), env: z.record(z.string(), z.string()) });

export function kubernetesFacts({ api, images, kubeconfig, cluster, namespace, settingsOf, harness }: KubernetesFacts): void {
  describe('the kubernetes driver', () => {
    const folder = mkdtempSync(join(tmpdir(), 'fn-kube-'));
    let bench: Bench;
    beforeAll(async () => {
      bench = new Bench(harness);
      await bench.driver.start();
    });
    afterEach(() => bench.killAll());
    afterAll(async () => {
      await bench.dispose();
      rmSync(folder, { recursive: true });
    });

    const podOf = ({ handle }: DriverInstance) => cluster().get(PodSeen, ['pod', handle, '--namespace', namespace()]);
    /** A connection by the tests' kubeconfig, changed. */
    const connection = async (change: (config: Kubeconfig) => void): Promise<KubeApi> => {
      const config = Kubeconfig.parse(parse(readFileSync(kubeconfig, 'utf8')));
      change(config);
      const file = join(folder, `kubeconfig-${newSecret()}`);
      writeFileSync(file, stringify(config), { mode: 0o600 });
      const made = await createKubeApi({ kubeconfig: file, log: silentLog });
      onTestFinished(() => made.close());
      return made;
    };
    const driverOver = (other: KubeApi, settings: Partial<KubernetesSettings> = {}, runtimes = images) =>
      createKubernetesDriver({
        api: other,
        settings: { ...settingsOf(bench.paths), ...settings },
        images: runtimes,
        version: 'test',
        log: silentLog,
      });

    it('runs a pod that is restricted, seen from inside and from the cluster', async () => {
      const instance = await bench.run({ network: 'egress', egress: ['10.250.0.0/16'] });
      const { status, mounts, env } = Self.parse(JSON.parse((await call(instance, '/self')).body));
      expect(status).toMatch(/^Uid:\s+65532\s+65532\s+65532\s+65532$/m);
      expect(status).toMatch(/^Gid:\s+65532\s+65532\s+65532\s+65532$/m);
      expect(status).toMatch(/^CapBnd:\s+0+$/m);
      expect(status).toMatch(/^CapEff:\s+0+$/m);
      expect(status).toMatch(/^NoNewPrivs:\s+1$/m);
      expect(status).toMatch(/^Seccomp:\s+2$/m);
      expect(mounts).toMatch(/^\S+ \/ \S+ ro[, ]/m);
      expect(mounts).not.toContain('serviceaccount');
      expect(Object.keys(env).filter((name) => name.startsWith('KUBERNETES_') || name === 'FN_NONCE')).toEqual([]);

      const { metadata, spec } = await podOf(instance);
      expect(metadata.labels).toMatchObject({
        'fn.dev/state': 'claimed',
        'fn.dev/function': 'suite',
        'fn.dev/namespace': 'default',
        'fn.dev/revision': '1',
      });
      expect(metadata.ownerReferences).toMatchObject([{ kind: 'ConfigMap' }]);
      expect(spec).toMatchObject({ automountServiceAccountToken: false, enableServiceLinks: false, restartPolicy: 'Never' });
      expect(spec.containers).toHaveLength(1);
      expect(spec.volumes.map((volume) => Object.keys(volume).toSorted())).toEqual([
        ['emptyDir', 'name'],
        ['emptyDir', 'name'],
      ]);
      // The list's policy is there, and selects the pod.
      const selector = `fn.dev/egress=${metadata.labels['fn.dev/egress']}`;
      const policies = await cluster().kubectl([
        'get',
        'networkpolicies',
        '--namespace',
        namespace(),
        '--selector',
        selector,
        '--output=json',
      ]);
      expect(policies).toContain('10.250.0.0/16');
    });

    it('tells an end at the memory limit from a crash', async () => {
      const instance = await bench.run();
      await expect(call(instance, '/eat?mib=400')).rejects.toThrow();
      expect(await bench.endOf(instance.id)).toEqual([
        { id: instance.id, cause: 'oom', detail: 'killed by the kernel at its memory limit' },
      ]);
    });

    it('joins long lines again as they were written', async () => {
      const instance = await bench.run();
      // Each takes two characters in the shim's JSON: over the 16 KiB at which the node cuts.
      const text = '"'.repeat(10_000);
      await call(instance, `/log?text=${text}`);
      await call(instance, '/log?text=after');
      const abort = new AbortController();
      let all = '';
      for await (const { data } of bench.driver.logs(instance.id, null, abort.signal)) {
        all += data.toString();
        if (all.includes('after')) break;
      }
      const lines = all
        .trimEnd()
        .split('\n')
        .map((line) => z.object({ msg: z.string() }).parse(JSON.parse(line)).msg);
      expect(lines).toEqual([text, 'after']);
    });

    it('gives a pod to one of two that claim it, and the other leaves it alone', async () => {
      const { instance, nonce } = await bench.boot();
      const other = driverOver(api);
      await other.start();
      onTestFinished(() => other.close());
      const spec = { bundleDir: bench.bundleDir, memoryMib: 128, cpu: 1, egress: 'none' as const, revision: 'default/suite@1', nonce };
      const claims = await Promise.allSettled([bench.driver, other].map((driver) => driver.specialise(instance.id, spec)));
      expect(claims.map(({ status }) => status).toSorted()).toEqual(['fulfilled', 'rejected']);
      expect(claims.find((each) => each.status === 'rejected')?.reason).toBeInstanceOf(ClaimLost);
      await init(instance, nonce, '/fn/code', 128);
      expect((await call(instance, '/')).body).toBe('hello');
    });

    it('takes nothing for dead while the API server is away, and tells afterwards who died, once', async () => {
      const config = Kubeconfig.parse(parse(readFileSync(kubeconfig, 'utf8')));
      const { hostname, port } = new URL(config.clusters[0]!.cluster.server);
      const proxy = await startTcpProxy({ host: hostname, port: Number(port) });
      onTestFinished(() => proxy.close());
      const through = await connection(({ clusters }) => {
        Object.assign(clusters[0]!.cluster, { server: `https://127.0.0.1:${proxy.port}`, 'tls-server-name': 'kubernetes.default.svc' });
      });
      const lives = await bench.run();
      const dies = await bench.run();
      const exits: Exit[] = [];
      const driver = driverOver(through);
      driver.onExit((exit) => void exits.push(exit));
      await driver.start();
      onTestFinished(() => driver.close());

      await proxy.cut();
      await harness.killOutside(dies);
      await expect(driver.create(bench.spec(), new AbortController().signal)).rejects.toBeInstanceOf(DriverUnavailable);
      await expect(driver.kill(lives.id)).rejects.toThrow(/did not answer/);
      expect((await driver.list()).filter(({ running }) => running)).toHaveLength(2);
      expect((await call(lives, '/')).body).toBe('hello');
      expect(exits).toEqual([]);

      await proxy.mend();
      await waitFor('the end that was missed', () => exits.length > 0, { timeoutMs: 60_000 });
      await healthOf(lives);
      expect(exits).toEqual([{ id: dies.id, cause: 'exit', detail: 'signal SIGKILL' }]);
      expect((await driver.list()).find(({ id }) => id === dies.id)?.running).toBe(false);
    });

    it('says when others take an instance away, and then that it is lost', async () => {
      const leaving: Leaving[] = [];
      bench.driver.onLeaving((news) => void leaving.push(news));
      const instance = await bench.run();
      const apiVersion = (await api.version()).minor >= 22 ? 'policy/v1' : 'policy/v1beta1';
      const eviction = { apiVersion, kind: 'Eviction', metadata: { name: instance.handle, namespace: namespace() } };
      const path = `/api/v1/namespaces/${namespace()}/pods/${instance.handle}/eviction`;
      await cluster().kubectl(['create', '--raw', path, '--filename', '-'], { input: JSON.stringify(eviction) });
      expect(await bench.endOf(instance.id)).toMatchObject([{ cause: 'lost' }]);
      expect(leaving).toMatchObject([{ id: instance.id }]);
      expect(leaving[0]?.graceMs).toBeLessThanOrEqual(60_000);
      await waitFor('the pod to be gone', async () => (await bench.driver.list()).length === 0);
    });

    it('loses its pods with their owner, and makes another owner', async () => {
      const one = new Bench(harness);
      onTestFinished(() => one.dispose());
      await one.driver.start();
      const { instance } = await one.boot();
      const { installation } = settingsOf(one.paths);
      await cluster().kubectl(['delete', 'configmap', '--namespace', namespace(), '--selector', `fn.dev/installation=${installation}`]);
      await waitFor('the end of the pod', () => one.exits.length > 0, { timeoutMs: 60_000 });
      expect(one.exits).toMatchObject([{ id: instance.id, cause: 'lost' }]);
      await one.driver.close();
      await one.driver.start();
      await one.boot();
    });

    it('says what to do where the namespace, a permission or an image is missing, and leaves nothing', async () => {
      const start = (driver: ReturnType<typeof driverOver>) => driver.start().finally(() => driver.close());
      await expect(start(driverOver(api, { namespace: 'drv-is-not-there' }))).rejects.toThrow(/kubectl create namespace drv-is-not-there/);
      const nobody = await connection(({ users }) => Object.assign(users[0]!.user, { as: 'fn-nobody' }));
      await expect(start(driverOver(nobody))).rejects.toThrow(/may not do this .*create pods.*Role/);
      const { pods } = settingsOf(bench.paths);
      const without = driverOver(api, { pods: { ...pods, imagePullPolicy: 'Never' } }, { node: 'fn/is-not-there:1' });
      await without.start();
      onTestFinished(() => without.close());
      await expect(without.create(bench.spec(), new AbortController().signal)).rejects.toThrow(/ErrImageNeverPull.*Load the image/s);
      expect(await without.list()).toEqual([]);
    });

    it('takes one request to the API server for a cold start, one for an instance, one for its end', async () => {
      // What goes on beside it (care, the watch) is not what is counted.
      const count = () => ['create', 'patch', 'delete'].map((verb) => api.requests.get(verb) ?? 0);
      const before = count();
      const instance = await bench.run();
      await bench.driver.kill(instance.id);
      expect(count().map((number, index) => number - before[index]!)).toEqual([1, 1, 1]);
    });
  });
}
