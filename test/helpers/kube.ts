/**
 * The Kubernetes cluster of the tests, and its tools. It is the one that KUBECONFIG names; else the one that
 * `npm test` is bringing up (FN_TEST_CLUSTER names the file that will say so); else one that is up by hand
 * (`test/kube/cluster up`).
 */
import { randomBytes } from 'node:crypto';
import { accessSync, appendFileSync, constants, existsSync, readFileSync } from 'node:fs';
import { basename, delimiter, dirname, join } from 'node:path';
import { execa } from 'execa';
import { z } from 'zod';
import { CACHE_HOME } from './cache.ts';
import { ROOT } from './root.ts';
import { waitFor } from './wait.ts';

/** Longest wait for a cluster that is being brought up: the first time it is compiled. */
export const CLUSTER_TIMEOUT_MS = 20 * 60_000;
const COMMAND_TIMEOUT_MS = 120_000;
const LOAD_TIMEOUT_MS = 300_000;
const DELETE_TIMEOUT_MS = 90_000;

const SCRIPT = join(ROOT, 'test', 'kube', 'cluster');
const KUBE_CACHE = process.env.KUBE_CACHE ?? join(CACHE_HOME, 'kube-from-debian');
const KUBE_RUN = process.env.KUBE_RUN ?? `/run/kube-test${process.env.KUBE_NUMBER ?? ''}`;
const OWN_KUBECONFIG = join(KUBE_RUN, 'admin.kubeconfig');

/** On every namespace that a test makes: the run that it belongs to. */
const RUN_LABEL = 'fn.dev/test-run';
/** Among the run's temporary files: the kubeconfigs of clusters that it made namespaces in. */
const USED_FILE = 'kubeconfigs';

export interface ToolOptions {
  /** For its stdin. */
  input?: string;
  timeoutMs?: number;
  /** Return in place of throwing where it fails. */
  mayFail?: boolean;
  env?: Record<string, string>;
}

export interface ToolResult {
  code: number;
  stdout: string;
  stderr: string;
}

/** A manifest as kubectl reads it. */
export type Manifest = Readonly<Record<string, unknown>>;

export class Cluster {
  readonly kubeconfig: string;
  /** One that test/kube/cluster brought up, by its state folder: the host reaches its pods and Services by address. */
  readonly own: string | null;
  readonly #loaded = new Map<string, Promise<void>>();

  constructor(kubeconfig: string) {
    this.kubeconfig = kubeconfig;
    const folder = dirname(kubeconfig);
    this.own = existsSync(join(folder, '.cluster')) ? folder : null;
  }

  /** The host as its pods reach it. Throws where the cluster is not one of test/kube/cluster. */
  hostAddress(): string {
    const net = this.own === null ? undefined : /\bserver: "https:\/\/(\d+\.\d+\.\d+)\.2:/.exec(readFileSync(this.kubeconfig, 'utf8'))?.[1];
    if (net === undefined) throw new Error(`nobody knows how the pods of the cluster of ${this.kubeconfig} reach this machine`);
    return `${net}.1`;
  }

  /** The nodes' names. */
  async nodes(): Promise<string[]> {
    return (await this.kubectl(['get', 'nodes', '-o', 'name']))
      .split('\n')
      .filter(Boolean)
      .map((name) => name.replace(/^node\//, ''));
  }

  /** Runs kubectl; its stdout. Throws with its own words where it fails. */
  async kubectl(args: readonly string[], options: ToolOptions = {}): Promise<string> {
    return (await this.run('kubectl', args, options)).stdout;
  }

  /** Runs Helm 3; its stdout. */
  async helm(args: readonly string[], options: ToolOptions = {}): Promise<string> {
    return (await this.run('helm', args, options)).stdout;
  }

  /** The same with code and stderr, which tell a failure that is wanted (`mayFail`). */
  async run(tool: 'kubectl' | 'helm', args: readonly string[], options: ToolOptions = {}): Promise<ToolResult> {
    return runTool(findTool(tool), args, { ...options, env: { KUBECONFIG: this.kubeconfig, ...options.env } });
  }

  /** Makes or changes objects. */
  async apply(manifests: Manifest | readonly Manifest[], flags: readonly string[] = []): Promise<void> {
    const items = Array.isArray(manifests) ? manifests : [manifests];
    await this.kubectl(['apply', '-f', '-', ...flags], { input: JSON.stringify({ apiVersion: 'v1', kind: 'List', items }) });
  }

  /** `kubectl get … -o json`, checked by a schema of what the test reads of it. */
  async get<T>(schema: z.ZodType<T>, args: readonly string[]): Promise<T> {
    return schema.parse(JSON.parse(await this.kubectl(['get', ...args, '-o', 'json'])));
  }

  /** Gives all nodes images of this machine's Docker; each once, whoever asks. */
  async loadImages(...images: string[]): Promise<void> {
    for (const image of images) {
      let loading = this.#loaded.get(image);
      if (loading === undefined) this.#loaded.set(image, (loading = this.#load(image)));
      await loading;
    }
  }

  async #load(image: string): Promise<void> {
    const command = process.env.FN_TEST_LOAD_IMAGES;
    if (this.own !== null) await runTool(SCRIPT, ['load', image], { timeoutMs: LOAD_TIMEOUT_MS, env: { KUBE_RUN: this.own } });
    else if (command) await runTool('sh', ['-c', `${command} "$1"`, 'sh', image], { timeoutMs: LOAD_TIMEOUT_MS });
    else
      throw new Error(
        `nobody said how the nodes of the cluster of ${this.kubeconfig} get ${image}: set FN_TEST_LOAD_IMAGES to a command that takes the name of an image, for example \`kind load docker-image\``,
      );
  }

  /**
   * Makes a namespace, usable at once, whose name begins with `prefix`. It carries the run's label, by which
   * removeNamespaces() finds it, also where the run was killed.
   */
  async namespace(prefix: string, labels: Readonly<Record<string, string>> = {}): Promise<string> {
    const folder = process.env.FN_TEST_FOLDER;
    if (folder !== undefined) appendFileSync(join(folder, 't', USED_FILE), `${this.kubeconfig}\n`);
    const name = `${prefix}-${randomBytes(4).toString('hex')}`;
    const run = folder === undefined ? 'by-hand' : basename(folder);
    await this.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels: { [RUN_LABEL]: run, ...labels } } });
    // Pods are refused until a controller has made it.
    await waitFor(`the service account of ${name}`, () => this.kubectl(['get', 'serviceaccount', 'default', '--namespace', name]));
    return name;
  }

  /** Begins to delete namespaces with all that is in them. The end of the run waits until they are gone. */
  async deleteNamespaces(...names: string[]): Promise<void> {
    if (names.length > 0) await this.kubectl(['delete', 'namespace', '--wait=false', '--ignore-not-found', ...names]);
  }
}

/** Deletes all namespaces that a run made and waits until they are gone; sentences about what would not go. */
export async function removeNamespaces(folder: string): Promise<string[]> {
  const file = join(folder, 't', USED_FILE);
  if (!existsSync(file)) return [];
  const left: string[] = [];
  for (const kubeconfig of new Set(readFileSync(file, 'utf8').split('\n').filter(Boolean))) {
    const cluster = new Cluster(kubeconfig);
    const args = ['delete', 'namespace', '--selector', `${RUN_LABEL}=${basename(folder)}`, `--timeout=${DELETE_TIMEOUT_MS}ms`];
    const { code, stderr } = await cluster.run('kubectl', args, { mayFail: true });
    if (code !== 0) left.push(`namespaces of the run are still in the cluster of ${kubeconfig}: ${stderr.trim()}`);
  }
  return left;
}

/** kubectl and Helm: those that test/kube/cluster brings along, else what is on the PATH. Throws where there is none. */
export function findTool(name: 'kubectl' | 'helm'): string {
  for (const folder of [join(KUBE_CACHE, 'bin'), ...(process.env.PATH ?? '').split(delimiter)]) {
    const path = join(folder, name);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      continue; // not in this folder
    }
  }
  throw new Error(`${name} is neither on the PATH nor in ${join(KUBE_CACHE, 'bin')}: install it`);
}

/** Runs Helm without a cluster, for what it says of a chart. It may have to be fetched first, beside the cluster. */
export async function runHelm(args: readonly string[], options: ToolOptions = {}): Promise<ToolResult> {
  if (process.env.FN_TEST_CLUSTER !== undefined && !existsSync(join(KUBE_CACHE, 'bin', 'helm'))) await findCluster();
  return runTool(findTool('helm'), args, options);
}

async function runTool(file: string, args: readonly string[], options: ToolOptions): Promise<ToolResult> {
  const { input, timeoutMs = COMMAND_TIMEOUT_MS, mayFail = false, env = {} } = options;
  const run = await execa(file, args, {
    env: { KUBE_CACHE, KUBE_RUN, ...env },
    reject: false,
    timeout: timeoutMs,
    maxBuffer: 64 * 1024 * 1024,
    stripFinalNewline: false,
    ...(input === undefined ? { stdin: 'ignore' as const } : { input }),
  });
  const said = `${basename(file)} ${args.join(' ')}`;
  if (run.timedOut) throw new Error(`${said} did not end within ${timeoutMs} ms\n${run.stderr}`);
  const result = { code: run.exitCode ?? -1, stdout: run.stdout, stderr: run.stderr };
  if (result.code !== 0 && !mayFail) throw new Error(`${said} ended with ${result.code}\n${result.stderr}${result.stdout}`);
  return result;
}

const Answer = z.union([z.object({ kubeconfig: z.string() }), z.object({ error: z.string() })]);

async function kubeconfigPath(): Promise<string> {
  const { KUBECONFIG, FN_TEST_CLUSTER: file } = process.env;
  if (KUBECONFIG) return KUBECONFIG;
  if (file === undefined) {
    if (existsSync(OWN_KUBECONFIG)) return OWN_KUBECONFIG;
    throw new Error('there is no Kubernetes cluster: run `npm test`, or bring one up with test/kube/cluster up, or set KUBECONFIG');
  }
  await waitFor('the cluster', () => existsSync(file), { timeoutMs: CLUSTER_TIMEOUT_MS, everyMs: 250 });
  const answer = Answer.parse(JSON.parse(readFileSync(file, 'utf8')));
  if ('error' in answer) throw new Error(answer.error);
  return answer.kubeconfig;
}

let found: Promise<Cluster> | undefined;

/** The cluster, once it answers: the same object for all of a test file. Throws where there is none, and says what to do. */
export function findCluster(): Promise<Cluster> {
  found ??= (async () => {
    const cluster = new Cluster(await kubeconfigPath());
    await cluster.kubectl(['get', '--raw', '/readyz'], { timeoutMs: 30_000 });
    return cluster;
  })();
  return found;
}
