/** The chart as Helm renders it, without a cluster: its objects, as far as tests look at them. */
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parse, parseAllDocuments } from 'yaml';
import { z } from 'zod';
import { runHelm } from './kube.ts';
import { ROOT } from './root.ts';

export const CHART = join(ROOT, 'helm', 'fn');

const Labels = z.record(z.string(), z.string()).default({});

const KubeObject = z.looseObject({
  apiVersion: z.string(),
  kind: z.string(),
  metadata: z.looseObject({ name: z.string(), namespace: z.string().optional(), labels: Labels, annotations: Labels }),
});
export type KubeObject = z.infer<typeof KubeObject>;

const EnvVar = z.object({ name: z.string(), value: z.string().optional(), valueFrom: z.looseObject({}).optional() });

const Container = z.looseObject({
  name: z.string(),
  image: z.string(),
  imagePullPolicy: z.string(),
  command: z.array(z.string()).default([]),
  args: z.array(z.string()).default([]),
  env: z.array(EnvVar).default([]),
  ports: z.array(z.object({ name: z.string(), containerPort: z.number() })).default([]),
  securityContext: z.looseObject({}).optional(),
  resources: z.looseObject({ limits: z.looseObject({}).optional(), requests: z.looseObject({}).optional() }).optional(),
});
export type Container = z.infer<typeof Container>;

export const PodSpec = z.looseObject({
  serviceAccountName: z.string().optional(),
  automountServiceAccountToken: z.boolean(),
  terminationGracePeriodSeconds: z.number().optional(),
  containers: z.array(Container),
  initContainers: z.array(Container).default([]),
  securityContext: z.looseObject({}).optional(),
  volumes: z
    .array(
      z.looseObject({
        name: z.string(),
        secret: z.looseObject({ secretName: z.string() }).optional(),
        configMap: z.looseObject({ name: z.string() }).optional(),
        persistentVolumeClaim: z.looseObject({ claimName: z.string() }).optional(),
        projected: z.looseObject({}).optional(),
        emptyDir: z.looseObject({}).optional(),
      }),
    )
    .default([]),
});
export type PodSpec = z.infer<typeof PodSpec>;

const Workload = z.looseObject({
  spec: z.looseObject({
    replicas: z.number().optional(),
    selector: z.object({ matchLabels: Labels }),
    template: z.object({ metadata: z.looseObject({ labels: Labels, annotations: Labels }), spec: PodSpec }),
  }),
});

/** Something of a release that runs: who it is, and what it runs. */
export interface Workload {
  object: KubeObject;
  labels: Record<string, string>;
  pod: PodSpec;
  replicas: number | undefined;
}

export interface RenderOptions {
  /** 1.31; 1.33 by default. */
  kube?: string;
  release?: string;
  namespace?: string;
  values?: Record<string, unknown>;
}

function args({ kube, release = 'fn', namespace = 'fn', values = {} }: RenderOptions, chart = CHART): string[] {
  return [
    release,
    chart,
    '--namespace',
    namespace,
    ...(kube === undefined ? [] : ['--kube-version', kube]),
    '--set-json',
    ...setJson(values),
  ];
}

/** `--set-json a={…}` takes one pair at a time, and leaves no file behind. */
function setJson(values: Record<string, unknown>): string[] {
  const pairs = Object.entries(values).map(([key, value]) => `${key}=${JSON.stringify(value)}`);
  return pairs.length === 0 ? ['global={}'] : pairs.flatMap((pair, index) => (index === 0 ? [pair] : ['--set-json', pair]));
}

/** All objects of a release. Throws with Helm's words where it refuses. */
export async function render(options: RenderOptions = {}): Promise<Rendered> {
  const { stdout } = await runHelm(['template', ...args({ kube: '1.33', ...options })]);
  const objects = parseAllDocuments(stdout).flatMap((document) => {
    if (document.errors.length > 0) throw new Error(`the chart renders what is no YAML: ${document.errors[0]?.message}`);
    const value: unknown = document.toJS();
    return value === null ? [] : [KubeObject.parse(value)];
  });
  return new Rendered(objects);
}

/** What Helm says where it refuses values. */
export async function refusal(values: Record<string, unknown>, options: RenderOptions = {}): Promise<string> {
  const { code, stderr } = await runHelm(['template', ...args({ kube: '1.33', ...options, values })], { mayFail: true });
  if (code === 0) throw new Error(`the chart takes ${JSON.stringify(values)}`);
  return stderr;
}

/** The words after an install. Helm shows them where there is a cluster; here a copy of the chart has them in a ConfigMap. */
export async function notes(values: Record<string, unknown> = {}): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'fn-chart-'));
  try {
    await cp(CHART, folder, { recursive: true });
    const words = await readFile(join(CHART, 'templates', 'NOTES.txt'), 'utf8');
    await rm(join(folder, 'templates', 'NOTES.txt'));
    const shown = 'apiVersion: v1\nkind: ConfigMap\nmetadata: { name: notes }\ndata:\n  text: {{ include "test.notes" . | quote }}\n';
    await writeFile(join(folder, 'templates', 'notes.yaml'), `{{- define "test.notes" }}${words}{{ end }}\n${shown}`);
    const { stdout } = await runHelm(['template', ...args({ kube: '1.33', values }, folder), '--show-only', 'templates/notes.yaml']);
    return z.object({ data: z.object({ text: z.string() }) }).parse(parse(stdout)).data.text;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

export class Rendered {
  readonly objects: readonly KubeObject[];

  constructor(objects: readonly KubeObject[]) {
    this.objects = objects;
  }

  of(kind: string): KubeObject[] {
    return this.objects.filter((object) => object.kind === kind);
  }

  /** Throws where it is not there. */
  get(kind: string, name: string): KubeObject {
    const found = this.find(kind, name);
    if (found === undefined) throw new Error(`there is no ${kind} ${name}, but ${this.of(kind).map(({ metadata }) => metadata.name)}`);
    return found;
  }

  find(kind: string, name: string): KubeObject | undefined {
    return this.of(kind).find(({ metadata }) => metadata.name === name);
  }

  /** Everything that runs, pods of `helm test` included. */
  workloads(): Workload[] {
    return this.objects.flatMap((object): Workload[] => {
      if (object.kind === 'Pod') return [{ object, labels: object.metadata.labels, pod: PodSpec.parse(object.spec), replicas: 1 }];
      if (object.kind !== 'Deployment' && object.kind !== 'StatefulSet') return [];
      const { spec } = Workload.parse(object);
      return [{ object, labels: spec.template.metadata.labels, pod: spec.template.spec, replicas: spec.replicas }];
    });
  }

  workload(component: string): Workload {
    const found = this.workloads().find(({ labels }) => labels['app.kubernetes.io/component'] === component);
    if (found === undefined) throw new Error(`nothing runs as ${component}`);
    return found;
  }

  /** The environment of a component's process as Kubernetes makes it: `$(NAME)` stands for an earlier variable, `$$` for $. */
  environment(component: string, given: Readonly<Record<string, string>> = {}): Record<string, string> {
    const env: Record<string, string> = {};
    for (const { name, value } of this.workload(component).pod.containers[0]!.env)
      env[name] =
        value === undefined
          ? (given[name] ?? 'from-the-cluster')
          : value.replaceAll(/\$\$|\$\((\w+)\)/g, (whole, variable: string | undefined) =>
              variable === undefined ? '$' : (env[variable] ?? whole),
            );
    return env;
  }
}
