/**
 * A platform that the chart has installed on the cluster of the tests, and who uses it from outside: the CLI by a context that it
 * was logged in to, callers by the Services' addresses, which this host reaches. What the suite installed is uninstalled with
 * its namespaces; what is then left is told.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, expect } from 'vitest';
import { z } from 'zod';
import { type InstanceView, PlatformStatus } from '#contract/api.ts';
import { CHART } from './chart.ts';
import { type Answer, type CallOptions, call } from './http.ts';
import { CLUSTER_TIMEOUT_MS, type Cluster, findCluster } from './kube.ts';
import { buildPlatformImages } from './platform-images.ts';
import type { CommandOptions, CommandResult, Deployed, DeployOptions } from './platform.ts';
import { ROOT } from './root.ts';
import type { UserPlatform } from './semantics.suite.ts';
import { waitFor } from './wait.ts';

const RELEASE = 'fn';
const INSTALL_TIMEOUT_MS = 240_000;
const UNINSTALL_TIMEOUT_MS = 120_000;
const COMMAND_TIMEOUT_MS = 90_000;
/** Pods of functions are told to go when their owner has gone. */
const GONE_TIMEOUT_MS = 90_000;

const Service = z.object({ spec: z.object({ clusterIP: z.string(), ports: z.array(z.object({ port: z.number() })).min(1) }) });
const Secret = z.object({ data: z.record(z.string(), z.string()) });
const Pods = z.object({
  items: z.array(
    z.object({
      metadata: z.object({
        name: z.string(),
        uid: z.string(),
        labels: z.record(z.string(), z.string()).default({}),
        deletionTimestamp: z.string().optional(),
      }),
      spec: z.object({ nodeName: z.string().optional() }),
      status: z.object({
        podIP: z.string().optional(),
        phase: z.string(),
        containerStatuses: z.array(z.object({ ready: z.boolean() })).default([]),
      }),
    }),
  ),
});

/** A pod of the release or of a function. */
export interface InstalledPod {
  name: string;
  uid: string;
  node: string | undefined;
  ip: string | undefined;
  labels: Readonly<Record<string, string>>;
  /** It is deleted and has not gone yet. */
  leaving: boolean;
  ready: boolean;
}

export class Installed implements UserPlatform {
  readonly cluster: Cluster;
  /** Of gateway, controllers and Redis. */
  readonly namespace: string;
  /** Of the instances. */
  readonly functions: string;
  /** The CLI's own: contexts, sources. */
  readonly folder: string;
  /** Of the gateway's Service. */
  url = '';
  #api = '';
  #token = '';
  #sources = 0;

  constructor(cluster: Cluster, namespace: string, functions: string) {
    this.cluster = cluster;
    this.namespace = namespace;
    this.functions = functions;
    this.folder = mkdtempSync(join(tmpdir(), 'fn-installed-'));
  }

  async install(values: Readonly<Record<string, unknown>>): Promise<void> {
    const args = ['install', RELEASE, CHART, '--namespace', this.namespace, '--values', '-', '--wait', '--timeout'];
    const input = JSON.stringify({ ...values, functions: { ...Object(values.functions), namespace: this.functions, create: false } });
    await this.cluster.helm([...args, `${INSTALL_TIMEOUT_MS / 1_000 - 10}s`], { input, timeoutMs: INSTALL_TIMEOUT_MS });
    [this.url, this.#api, this.#token] = await Promise.all([
      this.#address('fn-gateway'),
      this.#address('fn-api'),
      this.secret('fn-api-token', 'token'),
    ]);
    await this.fnOk(['login', this.#api, '--context', 'cluster'], { input: `${this.#token}\n` });
  }

  async #address(service: string): Promise<string> {
    const { spec } = await this.cluster.get(Service, ['service', service, '--namespace', this.namespace]);
    return `http://${spec.clusterIP}:${spec.ports[0]!.port}`;
  }

  /** A value of a Secret of the release, as text. */
  async secret(name: string, key: string): Promise<string> {
    const { data } = await this.cluster.get(Secret, ['secret', name, '--namespace', this.namespace]);
    return Buffer.from(data[key] ?? '', 'base64').toString();
  }

  /** Pods of the release by component (`gateway`, `controller`, `redis`), or of `functions`. */
  async pods(of: string): Promise<InstalledPod[]> {
    const where =
      of === 'functions'
        ? ['--namespace', this.functions]
        : ['--namespace', this.namespace, '--selector', `app.kubernetes.io/component=${of}`];
    return (await this.cluster.get(Pods, ['pods', ...where])).items.map(({ metadata, spec, status }) => ({
      name: metadata.name,
      uid: metadata.uid,
      node: spec.nodeName,
      ip: status.podIP,
      labels: metadata.labels,
      leaving: metadata.deletionTimestamp !== undefined,
      ready: status.containerStatuses.length > 0 && status.containerStatuses.every(({ ready }) => ready),
    }));
  }

  /** The controller's pod that leads. Throws where none has the label, or two. */
  async leader(): Promise<InstalledPod> {
    const leaders = (await this.pods('controller')).filter(({ labels }) => labels['fn.dev/role'] === 'leader');
    if (leaders.length !== 1) throw new Error(`${leaders.length} pods are labelled as the leader: ${leaders.map(({ name }) => name)}`);
    return leaders[0]!;
  }

  /** `kubectl` in the release's namespace. */
  kubectl(args: readonly string[], timeoutMs?: number): Promise<string> {
    return this.cluster.kubectl(['--namespace', this.namespace, ...args], timeoutMs === undefined ? {} : { timeoutMs });
  }

  async fn(args: string[], options: CommandOptions = {}): Promise<CommandResult> {
    const { input, timeoutMs = COMMAND_TIMEOUT_MS, cwd = ROOT, env = {} } = options;
    const run = await execa(join(ROOT, 'fn'), args, {
      cwd,
      // A home that is named, as the run's is, wins over a context.
      env: { XDG_CONFIG_HOME: join(this.folder, 'config'), FN_HOME: undefined, ...env },
      reject: false,
      timeout: timeoutMs,
      ...(input === undefined ? { stdin: 'ignore' as const } : { input }),
      stripFinalNewline: false,
    });
    if (run.timedOut) throw new Error(`fn ${args.join(' ')} did not end within ${timeoutMs} ms\n${run.stderr}`);
    return { code: run.exitCode ?? -1, stdout: run.stdout, stderr: run.stderr };
  }

  async fnOk(args: string[], options: CommandOptions = {}): Promise<CommandResult> {
    const result = await this.fn(args, options);
    if (result.code !== 0) throw new Error(`fn ${args.join(' ')} ended with ${result.code}\n${result.stderr}${result.stdout}`);
    return result;
  }

  async deploy(name: string, source: string, { file = 'handler.ts', flags = [], mayFail = false }: DeployOptions = {}): Promise<Deployed> {
    const path = /\n|export /.test(source) ? this.write(source, file) : join(ROOT, source);
    const result = await this.fn(['deploy', path, '--name', name, ...flags]);
    if (result.code !== 0 && !mayFail) throw new Error(`fn deploy of ${name} ended with ${result.code}\n${result.stderr}`);
    return { ...result, url: result.stdout.trim() };
  }

  write(source: string, file = 'handler.ts'): string {
    const folder = join(this.folder, 'src', String(this.#sources++));
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, file), source);
    return join(folder, file);
  }

  call(path: string, options: CallOptions = {}): Promise<Answer> {
    return call(`${this.url}${path}`, options);
  }

  /** What `fn status --json` prints, asked of whoever leads. */
  async status(): Promise<PlatformStatus> {
    const answer = await call(`${this.#api}/v1/status`, { headers: { authorization: `Bearer ${this.#token}` }, timeoutMs: 30_000 });
    if (answer.status !== 200) throw new Error(`status answered ${answer.status}: ${answer.text}`);
    return PlatformStatus.parse(answer.json());
  }

  async instances(name: string): Promise<InstanceView[]> {
    return (await this.status()).instances.filter((instance) => instance.function === name);
  }

  async scaledToZero(name: string, timeoutMs = 60_000): Promise<void> {
    await waitFor(`${name} to scale to zero`, async () => (await this.instances(name)).length === 0, { timeoutMs, everyMs: 200 });
  }

  async pooled(count = 1, timeoutMs = 60_000): Promise<void> {
    await waitFor(
      `${count} generic instances`,
      async () => (await this.status()).instances.filter(({ state }) => state === 'generic').length >= count,
      { timeoutMs, everyMs: 200 },
    );
  }

  /** Uninstalls it and deletes its namespaces. Returns the pods of functions that would not go by themselves, a sentence each. */
  async dispose(): Promise<string[]> {
    const left: string[] = [];
    try {
      const args = ['uninstall', RELEASE, '--namespace', this.namespace, '--wait', '--timeout', `${UNINSTALL_TIMEOUT_MS / 1_000 - 10}s`];
      const { code, stderr } = await this.cluster.run('helm', args, { timeoutMs: UNINSTALL_TIMEOUT_MS, mayFail: true });
      if (code !== 0) left.push(`helm uninstall ended with ${code}: ${stderr}`);
      else
        await waitFor('the pods of functions to go', async () => (await this.pods('functions')).length === 0, {
          timeoutMs: GONE_TIMEOUT_MS,
          everyMs: 500,
        });
    } catch (error) {
      left.push(String(error), ...(await this.pods('functions')).map(({ name }) => `pod ${name} of a function is still there`));
    } finally {
      await this.cluster.deleteNamespaces(this.namespace, this.functions);
      rmSync(this.folder, { recursive: true, force: true });
    }
    return left;
  }
}

const image = (text: string) => {
  const [repository, tag] = text.split(':');
  return { repository, tag };
};

/** Memory for a small machine. The CPU is the chart's own: with next to none a leader cannot renew its lease on a busy machine. */
const SMALL = { requests: { memory: '96Mi' }, limits: { memory: '512Mi' } };

async function install(config: Readonly<Record<string, string | number>>): Promise<Installed> {
  const cluster = await findCluster();
  const images = await buildPlatformImages('gateway', 'controller', 'redis', 'node');
  await cluster.loadImages(...Object.values(images));
  const installed = new Installed(cluster, await cluster.namespace('fni'), await cluster.namespace('fni-functions'));
  try {
    await installed.install({
      images: { gateway: image(images.gateway), controller: image(images.controller), redis: image(images.redis) },
      runtimes: { node: image(images.node) },
      gateway: { resources: SMALL, minReadySeconds: 1 },
      controller: { resources: SMALL, minReadySeconds: 1, config: { FN_POOL: 1, ...config } },
      redis: { resources: SMALL },
      // Declared functions have a suite of their own, and their kind belongs to the whole cluster.
      declared: { enabled: false },
      crds: { install: false },
      functions: { networkPolicies: 'unfiltered' },
    });
  } catch (error) {
    await installed.dispose();
    throw error;
  }
  return installed;
}

/** An installation for the tests of a file. `config`: settings of its controllers by their names. What it leaves fails the suite. */
export function useInstalled(config: Readonly<Record<string, string | number>> = {}): () => Installed {
  let installed: Installed | undefined;
  beforeAll(async () => {
    installed = await install(config);
  }, CLUSTER_TIMEOUT_MS + INSTALL_TIMEOUT_MS);
  afterAll(async () => {
    expect((await installed?.dispose()) ?? []).toEqual([]);
  }, UNINSTALL_TIMEOUT_MS + GONE_TIMEOUT_MS);
  return () => {
    if (installed === undefined) throw new Error('the chart is not installed');
    return installed;
  };
}
