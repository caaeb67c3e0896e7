/** What values of the chart may be, as one schema: helm/fn/values.schema.json is made of it. */
import { z } from 'zod';
import { KubernetesSettings } from '../controller/kube/settings.ts';
import { controllerSettings, gatewaySettings, type JsonSchema } from './settings.ts';

/** Every value has its default in values.yaml, and null takes that away; what is not known is refused. */
const values = <T extends z.ZodRawShape>(shape: T) => z.strictObject(shape).partial();

const text = z.string();
const flag = z.boolean();
const count = (min: number, max = 1_000_000) => z.int().min(min).max(max);
const port = count(1, 65_535);
const labels = z.record(text, text);
/** As the API of Kubernetes has it: checked there. */
const raw = z.record(text, z.unknown());
const rawList = z.array(z.record(text, z.unknown()));
const quantity = z.union([text, z.number()]);
const cidr = text.regex(/^[0-9a-fA-F.:]+\/\d{1,3}$/);
const url = text.regex(/^(?:https?:\/\/[^\s/?#@]+\/?)?$/);
const name = text.regex(/^(?:[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?)?$/);
const label = text.regex(/^(?:[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?)?$/);
const key = text.regex(/^[-._a-zA-Z0-9]{1,253}$/);

const image = values({
  registry: text.regex(/^[^\s]*[^\s/]$|^$/),
  repository: text.regex(/^[a-z0-9](?:[a-z0-9._/:-]*[a-z0-9])?$/),
  tag: text.regex(/^(?:[\w][\w.-]{0,127})?$/),
  digest: text.regex(/^(?:sha256:[0-9a-f]{64})?$/),
});
const runtime = image.extend({ enabled: flag.optional() });

const resources = values({ requests: z.record(text, quantity), limits: z.record(text, quantity), claims: rawList });
const probe = values({
  initialDelaySeconds: count(0),
  periodSeconds: count(1),
  timeoutSeconds: count(1),
  failureThreshold: count(1),
  successThreshold: count(1),
});
const probes = values({ startup: probe, liveness: probe, readiness: probe });
const budget = values({ enabled: flag, maxUnavailable: z.union([count(0), text.regex(/^\d{1,3}%$/)]) });
const placement = {
  nodeSelector: labels,
  tolerations: rawList,
  affinity: raw,
  topologySpreadConstraints: rawList,
  priorityClassName: name,
};
const pod = { podLabels: labels, podAnnotations: labels, podSecurityContext: raw, resources, ...placement };
const more = {
  extraEnv: z.array(z.looseObject({ name: text })),
  extraEnvFrom: rawList,
  extraVolumes: rawList,
  extraVolumeMounts: rawList,
};
const secret = values({ existingSecret: name, key });

const gateway = values({
  replicas: count(0, 10_000),
  config: raw,
  autoscaling: values({
    enabled: flag,
    minReplicas: count(1, 10_000),
    maxReplicas: count(1, 10_000),
    targetCPUUtilizationPercentage: count(1, 1_000).nullable(),
    metrics: rawList,
    behavior: raw,
  }),
  podDisruptionBudget: budget,
  maxSurge: z.union([count(1), text.regex(/^\d{1,3}%$/)]),
  minReadySeconds: count(0, 600),
  service: values({
    type: z.enum(['ClusterIP', 'NodePort', 'LoadBalancer']),
    port,
    tlsPort: port,
    nodePort: port.nullable(),
    tlsNodePort: port.nullable(),
    externalTrafficPolicy: z.enum(['', 'Cluster', 'Local']),
    loadBalancerClass: text,
    loadBalancerSourceRanges: z.array(cidr),
    annotations: labels,
  }),
  probes,
  serviceAccountName: name,
  ...pod,
  ...more,
});

const controller = values({
  replicas: count(1, 10),
  config: raw,
  homeSizeLimit: quantity,
  podDisruptionBudget: budget,
  minReadySeconds: count(0, 600),
  probes,
  ...pod,
  ...more,
});

const redis = values({
  enabled: flag,
  password: secret,
  persistence: values({ enabled: flag, size: quantity, storageClass: text, existingClaim: name }),
  appendfsync: z.enum(['always', 'everysec', 'no']),
  maxmemory: text.regex(/^(?:\d+(?:[kmg]b?)?)?$/i),
  config: z.record(text.regex(/^[a-z][a-z0-9-]*$/), z.union([text, z.number()])),
  probes,
  serviceAccountName: name,
  ...pod,
});

const link = values({
  token: secret,
  tls: values({
    enabled: flag,
    validityDays: count(1, 36_500),
    existingSecret: name,
    certManager: values({ enabled: flag, issuerRef: z.record(text, text) }),
  }),
});

const { networkPolicies, internalCidrs, sandboxes, pods } = KubernetesSettings.shape;
const functions = values({
  namespace: label,
  create: flag,
  namespaceAnnotations: labels,
  networkPolicies,
  internalCidrs,
  sandboxes,
  resourceQuota: raw,
  limitRange: raw,
  pods,
});

const metrics = values({
  enabled: flag,
  serviceMonitor: values({ enabled: flag, interval: text, scrapeTimeout: text, labels, metricRelabelings: rawList }),
  prometheusRule: values({ enabled: flag, labels, disabled: z.array(text), runbookBase: text, additionalRules: rawList }),
  dashboard: values({ enabled: flag, labels, annotations: labels }),
});

const Values = values({
  // Helm's own, for charts of charts.
  global: raw,
  nameOverride: label,
  fullnameOverride: label,
  commonLabels: labels,
  commonAnnotations: labels,
  images: values({
    registry: text.regex(/^[^\s]*[^\s/]$|^$/),
    tag: text.regex(/^(?:[\w][\w.-]{0,127})?$/),
    pullPolicy: z.enum(['IfNotPresent', 'Always', 'Never']),
    pullSecrets: z.array(name),
    gateway: image,
    controller: image,
    cli: image,
    redis: image,
  }),
  runtimes: z.record(text.regex(/^(?:node|python|bun|deno|binary)$/), runtime),
  publicUrl: url,
  listenAddress: z.enum(['0.0.0.0', '[::]']),
  keepOnUninstall: flag,
  gateway,
  controller,
  serviceAccount: values({ create: flag, name, annotations: labels }),
  api: values({ token: secret, service: values({ type: z.enum(['ClusterIP', 'NodePort', 'LoadBalancer']), annotations: labels }) }),
  link,
  secretKey: secret,
  tls: values({ enabled: flag, secrets: z.array(name), url }),
  redis,
  externalRedis: values({ url: text.regex(/^(?:rediss?:\/\/\S+)?$/), existingSecret: name, key }),
  functions,
  declared: values({ enabled: flag, namespaces: z.array(z.strictObject({ kubeNamespace: label.optional(), namespace: label })) }),
  crds: values({ install: flag, keep: flag }),
  ingress: values({ enabled: flag, className: text, annotations: labels, hosts: z.array(text), tls: rawList }),
  httpRoute: values({
    enabled: flag,
    annotations: labels,
    parentRefs: rawList,
    hostnames: z.array(text),
    scheme: z.enum(['http', 'https']),
  }),
  networkPolicies: values({
    enabled: flag,
    gatewayFrom: rawList,
    apiFrom: rawList,
    metricsFrom: rawList,
    releaseNamespaceLabels: labels,
  }),
  metrics,
  podSecurityContext: raw,
  test: values({ timeoutSeconds: count(30, 3_600), ...pod }),
});

/** What says nothing: that a number is a safe one, and that names are text. */
const isNoise = (keyword: string, value: unknown): boolean =>
  keyword === 'propertyNames'
    ? JSON.stringify(value) === '{"type":"string"}'
    : typeof value === 'number' && Math.abs(value) === Number.MAX_SAFE_INTEGER;

/** Without defaults, which values.yaml has, and without noise. */
function tidied(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(tidied);
  if (typeof schema !== 'object' || schema === null) return schema;
  return Object.fromEntries(
    Object.entries(schema)
      .filter(([keyword, value]) => keyword !== 'default' && !isNoise(keyword, value))
      .map(([keyword, value]) => [keyword, tidied(value)]),
  );
}

const isSchema = (value: unknown): value is JsonSchema => typeof value === 'object' && value !== null && !Array.isArray(value);

function at(schema: JsonSchema, ...path: string[]): JsonSchema {
  let found: unknown = schema;
  for (const step of path) found = isSchema(found) && isSchema(found.properties) ? found.properties[step] : undefined;
  if (!isSchema(found)) throw new Error(`the values have no ${path.join('.')}`);
  return found;
}

/** The JSON Schema of the chart's values. */
export function valuesSchema(): JsonSchema {
  const { $schema, ...rest } = z.toJSONSchema(Values, { io: 'input', target: 'draft-7' });
  const schema: JsonSchema = { $schema, title: 'Values of the chart fn', ...(tidied(rest) as JsonSchema) };
  for (const [component, config] of [
    ['gateway', gatewaySettings()],
    ['controller', controllerSettings()],
  ] as const) {
    const place = at(schema, component, 'config');
    Object.assign(place, config);
  }
  return schema;
}

/** The file's text. */
export const valuesSchemaText = (): string => `${JSON.stringify(valuesSchema(), null, 2)}\n`;
