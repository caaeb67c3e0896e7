/** What the chart renders, for old and new clusters and many values, without a cluster. test/cluster/chart*.test.ts installs it. */
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { KubernetesSettings } from '../controller/kube/settings.ts';
import { readConfig as readControllerConfig } from '../controller/config.ts';
import { readConfig as readGatewayConfig } from '../gateway/config.ts';
import { CHART, type KubeObject, render, type Rendered, type RenderOptions } from './helpers/chart.ts';
import { fieldFaults } from './helpers/kube-fields.ts';
import { runHelm } from './helpers/kube.ts';

const VERSIONS = ['1.20', '1.25', '1.31', '1.33'];

const EVERYTHING = {
  commonLabels: { team: 'platform' },
  commonAnnotations: { 'example.com/owner': 'platform' },
  publicUrl: 'https://fn.example.com',
  keepOnUninstall: true,
  images: {
    registry: 'registry.example.com/fn',
    pullSecrets: ['pull'],
    gateway: { digest: `sha256:${'a'.repeat(64)}` },
    controller: { registry: 'other.example.com', tag: '1.2.3' },
  },
  gateway: {
    config: { FN_MAX_BODY_BYTES: 100_000_000, FN_DRAIN_DELAY_MS: 0, FN_DRAIN_DEADLINE_MS: 90_500, FN_TRUSTED_PROXIES: '10.0.0.0/8' },
    autoscaling: { enabled: true, maxReplicas: 40, behavior: { scaleDown: { stabilizationWindowSeconds: 300 } } },
    service: { type: 'LoadBalancer', externalTrafficPolicy: 'Local', loadBalancerSourceRanges: ['10.0.0.0/8'], nodePort: 30_080 },
    extraEnv: [{ name: 'OTEL_EXPORTER_OTLP_ENDPOINT', value: 'http://collector:4318' }],
    podAnnotations: { a: 'b' },
    priorityClassName: 'high',
    tolerations: [{ operator: 'Exists' }],
    topologySpreadConstraints: [
      { maxSkew: 1, topologyKey: 'zone', whenUnsatisfiable: 'DoNotSchedule', labelSelector: { matchLabels: { a: 'b' } } },
    ],
  },
  controller: { replicas: 3, config: { FN_LOG_LEVEL: 'debug', FN_PUBLIC_HOSTS: 'fn.example.com' }, nodeSelector: { pool: 'system' } },
  ingress: {
    enabled: true,
    className: 'nginx',
    hosts: ['fn.example.com', '*.fn.example.com'],
    tls: [{ secretName: 'tls', hosts: ['fn.example.com'] }],
  },
  httpRoute: { enabled: true, parentRefs: [{ name: 'shared', namespace: 'infra' }], hostnames: ['fn.example.com'] },
  tls: { enabled: true, secrets: ['wildcard', 'shop'], url: 'https://fn.example.com' },
  redis: { maxmemory: '512mb', appendfsync: 'everysec', config: { 'tcp-keepalive': 60 }, persistence: { storageClass: '-' } },
  runtimes: { python: { enabled: true } },
  functions: {
    networkPolicies: 'enforced',
    internalCidrs: ['203.0.113.0/24', '2001:db8::/32'],
    sandboxes: ['gvisor'],
    resourceQuota: { hard: { pods: '200' } },
    limitRange: { limits: [{ type: 'Container', max: { memory: '8Gi' } }] },
    pods: {
      cpuLimit: null,
      spreadOver: '',
      labels: { 'example.com/cost': '$(HOME)' },
      tolerations: [{ key: 'fn', operator: 'Exists' }],
      port: 9_000,
    },
  },
  declared: { namespaces: [{ kubeNamespace: 'shop', namespace: 'shop' }, { namespace: 'default' }] },
  metrics: {
    serviceMonitor: { enabled: true, labels: { release: 'prometheus' } },
    prometheusRule: { enabled: true, runbookBase: 'https://example.com/runbooks', disabled: ['FnNoPool'] },
    dashboard: { enabled: true },
  },
};

const EXTERNAL = {
  redis: { enabled: false },
  externalRedis: { existingSecret: 'my-redis' },
  api: { token: { existingSecret: 'my-token', key: 'admin' } },
  link: { token: { existingSecret: 'my-link' }, tls: { existingSecret: 'my-tls' } },
  secretKey: { existingSecret: 'my-key', key: 'bytes' },
  serviceAccount: { create: false, name: 'mine' },
  functions: { namespace: 'mine', create: false },
  crds: { install: false },
  declared: { enabled: false },
};

const BARE = {
  link: { tls: { enabled: false } },
  redis: { persistence: { enabled: false } },
  networkPolicies: { enabled: false },
  metrics: { enabled: false },
  gateway: { replicas: 1, podDisruptionBudget: { enabled: false }, service: { type: 'NodePort' }, affinity: { nodeAffinity: {} } },
  controller: { replicas: 1, podDisruptionBudget: { enabled: false } },
};

const CERT_MANAGER = { link: { tls: { certManager: { enabled: true, issuerRef: { name: 'internal', kind: 'Issuer' } } } } };

const COMBINATIONS: [string, Record<string, unknown>][] = [
  ['nothing said', {}],
  ['everything', EVERYTHING],
  ['all of it from outside', EXTERNAL],
  ['as little as can be', BARE],
  [
    'cert-manager, IPv6, a Redis by URL',
    { ...CERT_MANAGER, listenAddress: '[::]', redis: { enabled: false }, externalRedis: { url: 'rediss://redis.example.com:6380/1' } },
  ],
];

const LONG = { release: `r${'x'.repeat(52)}`, namespace: `n${'y'.repeat(62)}` };

/** Of the same version of Kubernetes and the same values: rendered once. */
const cache = new Map<string, Promise<Rendered>>();
function rendered(options: RenderOptions): Promise<Rendered> {
  const key = JSON.stringify(options);
  let found = cache.get(key);
  if (found === undefined) cache.set(key, (found = render(options)));
  return found;
}

/** All on the oldest and the newest; between them what differs is all in `everything`. */
const EACH = VERSIONS.flatMap((kube, index) =>
  COMBINATIONS.filter(([name]) => name === 'everything' || index % 3 === 0).map(([name, values]) => [kube, name, values] as const),
);

/** Since when the cluster has it, and what else there was. */
const API_VERSIONS: Record<string, (minor: number) => string> = {
  PodDisruptionBudget: (minor) => (minor >= 21 ? 'policy/v1' : 'policy/v1beta1'),
  HorizontalPodAutoscaler: (minor) => (minor >= 23 ? 'autoscaling/v2' : 'autoscaling/v2beta2'),
  Deployment: () => 'apps/v1',
  StatefulSet: () => 'apps/v1',
  Ingress: () => 'networking.k8s.io/v1',
  NetworkPolicy: () => 'networking.k8s.io/v1',
  Role: () => 'rbac.authorization.k8s.io/v1',
  RoleBinding: () => 'rbac.authorization.k8s.io/v1',
  Lease: () => 'coordination.k8s.io/v1',
  CustomResourceDefinition: () => 'apiextensions.k8s.io/v1',
  HTTPRoute: () => 'gateway.networking.k8s.io/v1',
  ServiceMonitor: () => 'monitoring.coreos.com/v1',
  PrometheusRule: () => 'monitoring.coreos.com/v1',
  Certificate: () => 'cert-manager.io/v1',
};

/** Kinds of the cluster as a whole: the namespace of functions, and the kind Function. Nothing that gives rights. */
const CLUSTER_SCOPED = new Set(['Namespace', 'CustomResourceDefinition']);

const identity = ({ apiVersion, kind, metadata }: KubeObject) => `${apiVersion} ${kind} ${metadata.namespace ?? ''}/${metadata.name}`;
const matches = (selector: Record<string, string>, labels: Record<string, string>) =>
  Object.entries(selector).every(([name, value]) => labels[name] === value);

describe.each(EACH)('on Kubernetes %s, with %s', (kube, _name, values) => {
  it('has the versions of the API that are there, known fields only, and each object once', async () => {
    const { objects } = await rendered({ kube, values });
    const minor = Number(kube.split('.')[1]);
    for (const object of objects)
      expect([object.kind, object.apiVersion]).toEqual([object.kind, API_VERSIONS[object.kind]?.(minor) ?? 'v1']);
    // Of the versions that were, the client has no model: a server of 1.20 looks at those (test/cluster/chart.test.ts).
    expect(objects.flatMap((object) => fieldFaults(object) ?? [])).toEqual([]);
    expect(objects.filter((object) => fieldFaults(object) !== null).length).toBeGreaterThan(15);
    expect(new Set(objects.map(identity)).size).toBe(objects.length);
  });

  it('gives every object a namespace, and nobody rights over the cluster', async () => {
    const { objects } = await rendered({ kube, values });
    const without = objects.filter(({ metadata }) => metadata.namespace === undefined).map(({ kind }) => kind);
    expect(without.filter((kind) => !CLUSTER_SCOPED.has(kind))).toEqual([]);
    const Rules = z.array(z.object({ apiGroups: z.array(z.string()), resources: z.array(z.string()), verbs: z.array(z.string()) }));
    for (const { rules } of objects.filter(({ kind }) => kind === 'Role'))
      for (const { apiGroups, resources, verbs } of Rules.parse(rules)) {
        expect([...apiGroups, ...resources, ...verbs]).not.toContain('*');
        // Whoever may read them or make roles has everything; pods/exec is a way into any of them.
        expect(resources.filter((one) => /^(?:secrets|roles|rolebindings|serviceaccounts|pods\/exec|pods\/attach)/.test(one))).toEqual([]);
      }
  });

  it('runs everything as Pod Security "restricted" asks, with requests and a limit of memory', async () => {
    for (const { pod, object } of (await rendered({ kube, values })).workloads()) {
      expect(pod.securityContext).toMatchObject({ runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } });
      expect([pod.hostNetwork, pod.hostPID, pod.hostIPC]).toEqual([undefined, undefined, undefined]);
      for (const container of [...pod.containers, ...pod.initContainers]) {
        expect(container.securityContext).toMatchObject({
          allowPrivilegeEscalation: false,
          privileged: false,
          readOnlyRootFilesystem: true,
          runAsNonRoot: true,
          capabilities: { drop: ['ALL'] },
          seccompProfile: { type: 'RuntimeDefault' },
        });
        expect(container.resources).toMatchObject({
          requests: { cpu: expect.anything(), memory: expect.anything() },
          limits: { memory: expect.anything() },
        });
      }
      const kinds = pod.volumes.flatMap((volume) => Object.keys(volume).filter((key) => key !== 'name' && volume[key] !== undefined));
      expect(kinds.filter((kind) => !['emptyDir', 'secret', 'configMap', 'persistentVolumeClaim', 'projected'].includes(kind))).toEqual([]);
      const component = object.metadata.labels['app.kubernetes.io/component'];
      expect([component, pod.automountServiceAccountToken]).toEqual([component, component === 'controller']);
    }
  });

  it('has Services, budgets and policies that select something, and ports that are there', async () => {
    const chart = await rendered({ kube, values });
    const running = chart.workloads().map((one) => ({ ...one, labels: { ...one.labels, ...leads(one.labels) } }));
    const Service = z.object({ selector: z.record(z.string(), z.string()), ports: z.array(z.object({ targetPort: z.string() })) });
    for (const { spec, metadata } of chart.of('Service')) {
      const { selector, ports } = Service.parse(spec);
      const selected = running.filter(({ labels }) => matches(selector, labels));
      expect([metadata.name, selected.length]).toEqual([metadata.name, 1]);
      const names = selected[0]!.pod.containers.flatMap((container) => container.ports.map(({ name }) => name));
      for (const { targetPort } of ports) expect(names).toContain(targetPort);
    }
    const Budget = z.object({ selector: z.object({ matchLabels: z.record(z.string(), z.string()) }) });
    for (const { spec } of chart.of('PodDisruptionBudget'))
      expect(running.filter(({ labels }) => matches(Budget.parse(spec).selector.matchLabels, labels))).toHaveLength(1);
    const Policy = z.object({ podSelector: z.object({ matchLabels: z.record(z.string(), z.string()) }) });
    const own = chart.of('NetworkPolicy').filter(({ metadata }) => metadata.labels['app.kubernetes.io/component'] !== 'functions');
    const selecting = own.map(
      ({ spec }) => running.filter(({ labels }) => matches(Policy.parse(spec).podSelector.matchLabels, labels)).length,
    );
    expect(selecting).toEqual(own.map(() => 1));
  });

  it('mounts only what it makes, or what was named', async () => {
    const chart = await rendered({ kube, values });
    const given = new Set(['pull', 'wildcard', 'shop', 'my-token', 'my-link', 'my-tls', 'my-key', 'my-redis', 'mine', 'fn-link-tls']);
    const missing = chart.workloads().flatMap(({ pod }) => {
      const secrets = [...JSON.stringify(pod).matchAll(/"secret(?:Name|KeyRef)":(?:"([^"]+)"|\{"name":"([^"]+)")/g)];
      const needed = [
        ...secrets.map(([, mounted, variable]) => ['Secret', mounted ?? variable!] as const),
        ...pod.volumes.map(({ persistentVolumeClaim: claim }) => ['PersistentVolumeClaim', claim?.claimName] as const),
        ['ServiceAccount', pod.serviceAccountName] as const,
      ];
      return needed.filter(([kind, name]) => name !== undefined && !given.has(name) && chart.find(kind, name) === undefined);
    });
    expect(missing).toEqual([]);
  });

  it('gives each process settings that it takes', async () => {
    const chart = await rendered({ kube, values });
    const controller = readControllerConfig(chart.environment('controller', { FN_POD_NAME: 'fn-controller-0', FN_STORE: 'redis://r' }));
    expect(controller.FN_KUBERNETES.self).toEqual({ namespace: 'fn', pod: 'fn-controller-0' });
    expect(controller.FN_KUBERNETES.lease).toEqual({ namespace: 'fn', name: chart.of('Lease')[0]?.metadata.name });
    expect(chart.of('ConfigMap').map(({ metadata }) => metadata.name)).toContain(controller.FN_KUBERNETES.owner);
    const gateway = readGatewayConfig(chart.environment('gateway', { FN_GATEWAY_ID: 'fn-gateway-5d4f-x' }));
    expect(gateway.gatewayId).toBe('fn-gateway-5d4f-x');
    const { terminationGracePeriodSeconds } = chart.workload('gateway').pod;
    const env = chart.environment('gateway');
    const drainMs = Number(env.FN_DRAIN_DELAY_MS ?? 0) + Number(env.FN_DRAIN_DEADLINE_MS ?? 30_000);
    // The process itself needs 2 s more, for its links (gateway/main.ts).
    expect(terminationGracePeriodSeconds! * 1_000).toBeGreaterThanOrEqual(drainMs + 2_000);
  });
});

/** What the controllers do by themselves. */
const leads = (labels: Record<string, string>): Record<string, string> =>
  labels['app.kubernetes.io/component'] === 'controller' ? { 'fn.dev/role': 'leader' } : {};

describe('names', () => {
  it.each(COMBINATIONS)('have 63 characters at most, also of the longest release, with %s', async (_name, values) => {
    const { objects } = await rendered({ ...LONG, values });
    const names = objects.filter(({ kind }) => kind !== 'CustomResourceDefinition').map(({ metadata }) => metadata.name);
    expect(names.filter((name) => !/^[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?$/.test(name))).toEqual([]);
    const labels = objects.flatMap(({ metadata }) => Object.values(metadata.labels));
    expect(labels.filter((value) => !/^(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$/.test(value))).toEqual([]);
    const chart = await rendered({ ...LONG, values });
    expect(() => readControllerConfig(chart.environment('controller', { FN_STORE: 'redis://r' }))).not.toThrow();
  });

  it.each<[string, RenderOptions, RenderOptions]>([
    ['of one name in two namespaces', { namespace: 'a' }, { namespace: 'b' }],
    ['of two names in one namespace', { release: 'one' }, { release: 'two' }],
    ['whose names begin alike', { release: `${'x'.repeat(48)}one` }, { release: `${'x'.repeat(48)}two` }],
    ['one of which is called as its namespace', { release: 'fn', namespace: 'fn' }, { release: 'fn', namespace: 'other' }],
  ])('two releases %s have no object in common', async (_name, one, two) => {
    const [first, second] = await Promise.all([rendered({ ...one, values: EVERYTHING }), rendered({ ...two, values: EVERYTHING })]);
    const taken = new Set(first.objects.map(identity));
    expect(second.objects.map(identity).filter((name) => taken.has(name))).toEqual([
      'apiextensions.k8s.io/v1 CustomResourceDefinition /functions.fn.dev',
    ]);
    // Nor do their pods answer to the other's Services and policies.
    const labels = first.workloads().map((workload) => workload.labels);
    for (const { spec, metadata } of second.of('Service')) {
      const { selector } = z.object({ selector: z.record(z.string(), z.string()) }).parse(spec);
      if (metadata.namespace === first.of('Service')[0]?.metadata.namespace)
        expect(labels.filter((pod) => matches(selector, { ...pod, ...leads(pod) }))).toEqual([]);
    }
    const settings = [first, second].map((chart) => KubernetesSettings.parse(JSON.parse(chart.environment('controller').FN_KUBERNETES!)));
    expect(settings[0]!.installation).not.toBe(settings[1]!.installation);
    expect(settings[0]!.namespace).not.toBe(settings[1]!.namespace);
  });
});

describe('the chart', () => {
  it('passes helm lint --strict', async () => {
    const { stdout } = await runHelm(['lint', '--strict', CHART]);
    expect(stdout).toContain('0 chart(s) failed');
  });

  it('sends gateways and controllers to each other over TLS, whose certificate names the Service', async () => {
    const chart = await rendered({});
    const { FN_LINK, FN_EVENTS_LINK, FN_LINK_CA_FILE } = chart.environment('gateway');
    expect([FN_LINK, FN_EVENTS_LINK]).toEqual(['tls://fn-link.fn.svc:7071', 'tls://fn-link.fn.svc:7072']);
    const { data } = z.object({ data: z.record(z.string(), z.base64()) }).parse(chart.get('Secret', 'fn-link-tls'));
    const { X509Certificate, createPrivateKey } = await import('node:crypto');
    const pem = (name: string) => Buffer.from(data[name]!, 'base64').toString();
    const certificate = new X509Certificate(pem('tls.crt'));
    expect(certificate.checkHost('fn-link.fn.svc')).toBe('fn-link.fn.svc');
    expect(certificate.verify(new X509Certificate(pem('ca.crt')).publicKey)).toBe(true);
    expect(certificate.checkPrivateKey(createPrivateKey(pem('tls.key')))).toBe(true);
    // What a gateway is given of it is not the key.
    const volume = chart.workload('gateway').pod.volumes.find(({ name }) => name === 'ca');
    expect(volume?.secret).toMatchObject({ items: [{ key: 'ca.crt', path: 'ca.crt' }] });
    expect(FN_LINK_CA_FILE).toBe('/etc/fn/ca/ca.crt');
  });

  it('makes secrets of the length that fn asks for, others each time', async () => {
    const made = await Promise.all([render(), render()]);
    const value = (chart: Rendered, name: string, key: string) =>
      Buffer.from(z.record(z.string(), z.string()).parse(chart.get('Secret', name).data)[key]!, 'base64');
    for (const chart of made) {
      expect(value(chart, 'fn-api-token', 'token').toString()).toMatch(/^[A-Za-z0-9_-]{43}$/);
      expect(value(chart, 'fn-link-token', 'token').toString()).toMatch(/^[A-Za-z0-9_-]{43}$/);
      expect(value(chart, 'fn-redis', 'password').toString()).toMatch(/^[A-Za-z0-9_-]{43}$/);
      expect(value(chart, 'fn-secret-key', 'key')).toHaveLength(32);
    }
    expect(value(made[0], 'fn-api-token', 'token').equals(value(made[1], 'fn-api-token', 'token'))).toBe(false);
  });

  it('names images by digest, by tag, or by the version of fn', async () => {
    const chart = await rendered({ values: EVERYTHING });
    const image = (component: string) => chart.workload(component).pod.containers[0]!.image;
    expect(image('gateway')).toBe(`registry.example.com/fn/fn/gateway@sha256:${'a'.repeat(64)}`);
    expect(image('controller')).toBe('other.example.com/fn/controller:1.2.3');
    const { appVersion } = z
      .object({ appVersion: z.string() })
      .parse((await import('yaml')).parse((await runHelm(['show', 'chart', CHART])).stdout));
    expect(image('test')).toBe(`registry.example.com/fn/fn/cli:${appVersion}`);
    expect(JSON.parse(chart.environment('controller').FN_RUNTIME_IMAGES!)).toEqual({
      node: `registry.example.com/fn/fn/node:${appVersion}`,
      python: `registry.example.com/fn/fn/python:${appVersion}`,
    });
  });

  it('tells null from nothing, keeps digits, and leaves what looks like a variable alone', async () => {
    const chart = await rendered({ values: EVERYTHING });
    const { pods, networkPolicies } = KubernetesSettings.parse(JSON.parse(chart.environment('controller').FN_KUBERNETES!));
    expect(pods).toMatchObject({
      cpuLimit: null,
      spreadOver: null,
      priorityClassName: null,
      port: 9_000,
      labels: { 'example.com/cost': '$(HOME)' },
    });
    expect(networkPolicies).toBe('enforced');
    expect(chart.environment('gateway').FN_MAX_BODY_BYTES).toBe('100000000');
  });

  it('keeps what lasts where it is told to, and nothing otherwise', async () => {
    const kept = async (values: Record<string, unknown>) =>
      (await rendered({ values })).objects
        .filter(({ metadata }) => metadata.annotations['helm.sh/resource-policy'] === 'keep')
        .map(({ kind, metadata }) => `${kind} ${metadata.name}`)
        .toSorted();
    expect(await kept({})).toEqual([]);
    expect(await kept(EVERYTHING)).toEqual([
      'PersistentVolumeClaim fn-redis',
      'Secret fn-api-token',
      'Secret fn-link-tls',
      'Secret fn-link-token',
      'Secret fn-redis',
      'Secret fn-secret-key',
    ]);
    expect(await kept({ crds: { keep: true } })).toEqual(['CustomResourceDefinition functions.fn.dev']);
  });

  it('lets instances be dialled by gateways and controllers only, and dial nothing that the controller does not allow', async () => {
    const chart = await rendered({ values: EVERYTHING });
    const policies = chart.of('NetworkPolicy').filter(({ metadata }) => metadata.namespace === 'fn-functions');
    expect(policies.map(({ metadata, spec }) => [metadata.name, spec])).toMatchSnapshot();
  });

  it('lets only controllers dial Redis, only gateways the link, and nobody unnamed the API', async () => {
    const chart = await rendered({
      values: { networkPolicies: { apiFrom: [{ namespaceSelector: { matchLabels: { team: 'platform' } } }] } },
    });
    const policies = chart.of('NetworkPolicy').filter(({ metadata }) => metadata.namespace === 'fn');
    expect(policies.map(({ metadata, spec }) => [metadata.name, spec])).toMatchSnapshot();
  });

  it('gives the controllers the rights that they use', async () => {
    const chart = await rendered({ values: EVERYTHING });
    expect(chart.of('Role').map(({ metadata, rules }) => [`${metadata.namespace}/${metadata.name}`, rules])).toMatchSnapshot();
    const bindings = chart.of('RoleBinding').map(({ metadata, roleRef, subjects }) => ({ in: metadata.namespace, roleRef, subjects }));
    for (const { in: namespace, roleRef, subjects } of bindings) {
      const { name } = z.object({ name: z.string() }).parse(roleRef);
      expect(chart.of('Role').filter(({ metadata }) => metadata.namespace === namespace && metadata.name === name)).toHaveLength(1);
      expect(subjects).toEqual([{ kind: 'ServiceAccount', name: 'fn-controller', namespace: 'fn' }]);
    }
  });

  it('leaves the number of gateways to the autoscaler where there is one', async () => {
    expect((await rendered({ values: EVERYTHING })).workload('gateway').replicas).toBeUndefined();
    expect((await rendered({})).workload('gateway').replicas).toBe(2);
  });
});
