/** Values of the chart: what is refused and with which words; and what people are given beside objects: notes, alerts, a dashboard. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { z } from 'zod';
import { CONTROLLER_METRICS, GATEWAY_METRICS, type MetricSpec } from '#kit/telemetry-names.ts';
import { valuesSchemaText } from '../helm/values.ts';
import { CHART, notes, refusal, render, type Rendered } from './helpers/chart.ts';
import { ROOT } from './helpers/root.ts';

const DOCS = readFileSync(join(ROOT, 'docs/kubernetes-install.md'), 'utf8');

describe('values.schema.json', () => {
  it("is what fn's own schemas say: node helm/schema.ts writes it", () => {
    expect(readFileSync(join(CHART, 'values.schema.json'), 'utf8')).toBe(valuesSchemaText());
  });

  it('knows nothing that values.yaml does not show', () => {
    const Schema = z.looseObject({ properties: z.record(z.string(), z.unknown()) });
    const missing = (schema: unknown, values: unknown, path: string): string[] => {
      const { success, data } = Schema.safeParse(schema);
      // Settings are in docs/operations.md, and what one is free to name is not known.
      if (!success || /\.config$|^(?:runtimes|global)/.test(path)) return [];
      const shown = z.record(z.string(), z.unknown()).safeParse(values).data ?? {};
      return Object.entries(data.properties).flatMap(([name, inner]) => {
        const at = path === '' ? name : `${path}.${name}`;
        // What may be left out of resources, probes and lists is Kubernetes' own.
        if (/\.(?:resources|probes)\.|^global$/.test(at) || /^test\.pod(?:Labels|Annotations)$/.test(at)) return [];
        return name in shown ? missing(inner, shown[name], at) : [at];
      });
    };
    expect(missing(JSON.parse(valuesSchemaText()), parse(readFileSync(join(CHART, 'values.yaml'), 'utf8')), '')).toEqual([]);
  });
});

describe('values that are wrong are refused, and it is said what to do', () => {
  it.each<[string, Record<string, unknown>, RegExp]>([
    ['a value that is not known', { gatway: {} }, /gatway/],
    ['a setting that is not known', { controller: { config: { FN_POOOL: 3 } } }, /controller\.config|controller\/config[^]*FN_POOOL/],
    ['a setting that the chart makes', { gateway: { config: { FN_LISTEN: '0.0.0.0:1' } } }, /gateway\.config|gateway\/config[^]*FN_LISTEN/],
    ['a setting out of its bounds', { controller: { config: { FN_POOL: 1_001 } } }, /FN_POOL[^]*1000/],
    ['a setting of another kind', { gateway: { config: { FN_MAX_BODY_BYTES: '1MB' } } }, /FN_MAX_BODY_BYTES[^]*integer/],
    ['a setting of pods that is not known', { functions: { pods: { hostNetwork: true } } }, /pods[^]*hostNetwork/],
    ['a port of instances that needs root', { functions: { pods: { port: 80 } } }, /port[^]*1024/],
    ['a digest that is none', { images: { gateway: { digest: 'latest' } } }, /digest/],
    ['a runtime that there is not', { runtimes: { cobol: { enabled: true } } }, /cobol/],
    ['no store', { redis: { enabled: false } }, /no store: redis\.enabled is false, so set externalRedis\.existingSecret/],
    ['two stores', { externalRedis: { url: 'redis://r:6379' } }, /two stores/],
    [
      'a password for all to read',
      { redis: { enabled: false }, externalRedis: { url: 'redis://fn:secret@r:6379' } },
      /holds a password[^]*externalRedis\.existingSecret/,
    ],
    ["functions in the release's own namespace", { functions: { namespace: 'fn' } }, /functions\.namespace is the release's own \(fn\)/],
    ['no runtime', { runtimes: { node: { enabled: false } } }, /no runtime is enabled/],
    [
      'fewer gateways at most than at least',
      { gateway: { autoscaling: { enabled: true, minReplicas: 5, maxReplicas: 2 } } },
      /minReplicas \(5\) is more than maxReplicas \(2\)/,
    ],
    [
      'scaling by a share of nothing',
      { gateway: { autoscaling: { enabled: true }, resources: { requests: { cpu: null } } } },
      /measured against gateway\.resources\.requests\.cpu/,
    ],
    ['cert-manager without an issuer', { link: { tls: { certManager: { enabled: true } } } }, /issuerRef\.name/],
    ['a route of no Gateway', { httpRoute: { enabled: true } }, /httpRoute\.parentRefs/],
    ['TLS without certificates', { tls: { enabled: true } }, /tls\.secrets/],
    [
      'a namespace that declares twice',
      { declared: { namespaces: [{ namespace: 'a' }, { kubeNamespace: 'fn', namespace: 'b' }] } },
      /names fn twice/,
    ],
    ['a setting of fn among others', { gateway: { extraEnv: [{ name: 'FN_SLOW_MS', value: '1' }] } }, /belong in gateway\.config/],
    ['gateways by a number that is none', { gateway: { replicas: -1 } }, /replicas/],
  ])('%s', async (_name, values, words) => {
    expect(await refusal(values)).toMatch(words);
  });

  it('an old cluster', async () => {
    expect(await refusal({}, { kube: '1.19' })).toMatch(/requires kubeVersion: >=1\.20/);
  });
});

describe('the notes', () => {
  it('end in a first deployment, and warn of what is off', async () => {
    expect(await notes()).toMatchSnapshot();
  });

  it.each<[string, Record<string, unknown>, RegExp]>([
    ['egress that is not filtered', { functions: { networkPolicies: 'unfiltered' } }, /EGRESS IS NOT FILTERED/],
    ['policies that are not made', { networkPolicies: { enabled: false } }, /no NetworkPolicies/],
    ['a link that is not encrypted', { link: { tls: { enabled: false } } }, /not encrypted/],
    ['a Redis without a disk', { redis: { persistence: { enabled: false } } }, /lost with its pod/],
    ['a Redis that writes late', { redis: { appendfsync: 'everysec' } }, /loses up to 2 s/],
    ['one controller', { controller: { replicas: 1 } }, /One controller/],
  ])('tell of %s', async (_name, values, words) => {
    expect(await notes(values)).toMatch(words);
  });

  it('say nothing that is not so', async () => {
    const text = await notes({ functions: { networkPolicies: 'enforced' }, keepOnUninstall: true, publicUrl: 'https://fn.example.com' });
    expect(text).toContain('Functions are called at https://fn.example.com.');
    expect(text).not.toMatch(/egress|enforced|inside the cluster only|removes everything/);
  });
});

const METRICS: Record<string, MetricSpec> = { ...GATEWAY_METRICS, ...CONTROLLER_METRICS };

/** What Prometheus itself and the ServiceMonitor add. `namespace` of a function is `fn_namespace` there. */
const TARGET_LABELS = ['job', 'namespace', 'pod', 'le'];

/** Metrics and labels of an expression that fn does not have. */
function unknownIn(expression: string): string[] {
  const own = (spec: MetricSpec) => [...TARGET_LABELS, ...spec.labels.map((label) => (label === 'namespace' ? 'fn_namespace' : label))];
  const faults: string[] = [];
  const known: string[] = [];
  for (const [, name, selector] of expression.matchAll(/\b((?:fn|process)_[a-z_]+?)(?:_bucket|_sum|_count)?\{([^}]*)\}/g)) {
    const spec = METRICS[name!];
    if (spec === undefined) faults.push(name!);
    else {
      known.push(...own(spec));
      for (const [, label] of selector!.matchAll(/(\w+)(?:=~|!~|!=|=)"/g))
        if (!own(spec).includes(label!)) faults.push(`${name}{${label}}`);
      if (expression.includes(`${name}_bucket`) && spec.kind !== 'histogram') faults.push(`${name} is no histogram`);
      if (expression.includes(`rate(${name}{`) && spec.kind !== 'counter') faults.push(`${name} is no counter`);
    }
  }
  for (const [, labels] of expression.matchAll(/\bby \(([^)]*)\)/g))
    for (const label of labels!.split(',').map((one) => one.trim())) if (!known.includes(label)) faults.push(`by (${label})`);
  if (known.length === 0) faults.push(`no metric in ${expression}`);
  return faults;
}

describe('what is watched', () => {
  let chart: Rendered;
  beforeAll(async () => {
    const enabled = { enabled: true };
    chart = await render({
      release: 'prod',
      namespace: 'apps',
      values: {
        metrics: {
          serviceMonitor: enabled,
          prometheusRule: { ...enabled, runbookBase: 'https://example.com/runbooks' },
          dashboard: enabled,
        },
      },
    });
  });

  const Rules = z.object({
    groups: z.array(
      z.object({
        rules: z.array(
          z.strictObject({
            alert: z.string(),
            expr: z.string(),
            for: z.string().regex(/^\d+m$/),
            labels: z.object({ severity: z.enum(['critical', 'warning', 'info']), fn_installation: z.literal('apps-prod-fn') }),
            annotations: z.object({ summary: z.string(), runbook: z.string(), runbook_url: z.string() }),
          }),
        ),
      }),
    ),
  });

  it('by alerts of metrics that there are, each with a paragraph that says what to do', () => {
    const rules = Rules.parse(chart.get('PrometheusRule', 'prod-fn').spec).groups.flatMap((group) => group.rules);
    expect(rules.length).toBeGreaterThan(8);
    expect(rules.flatMap(({ expr }) => unknownIn(expr))).toEqual([]);
    for (const { alert, expr, annotations } of rules) {
      expect(annotations.runbook_url).toBe(`https://example.com/runbooks#${alert.toLowerCase()}`);
      expect(DOCS).toContain(`\n#### ${alert}\n`);
      expect(expr).toMatch(/job=~?"prod-fn-/);
      expect(expr).toContain('namespace="apps"');
    }
    expect(new Set(rules.map(({ alert }) => alert)).size).toBe(rules.length);
    // And no paragraph is about an alert that there is not.
    const told = [...DOCS.matchAll(/^#### (Fn\w+)$/gm)].map(([, name]) => name);
    expect(told.toSorted()).toEqual(rules.map(({ alert }) => alert).toSorted());
  });

  it('by a dashboard of metrics that there are', () => {
    const { data } = z.object({ data: z.record(z.string(), z.string()) }).parse(chart.get('ConfigMap', 'prod-fn-dashboard'));
    const Panel = z.object({
      title: z.string(),
      gridPos: z.object({ x: z.number(), w: z.number() }),
      targets: z.array(z.object({ expr: z.string() })),
    });
    const { panels, uid } = z.object({ panels: z.array(Panel), uid: z.string().max(40) }).parse(JSON.parse(data['fn-apps-prod-fn.json']!));
    expect(panels.flatMap(({ targets }) => targets.flatMap(({ expr }) => unknownIn(expr)))).toEqual([]);
    expect(panels.filter(({ gridPos }) => gridPos.x + gridPos.w > 24)).toEqual([]);
    expect(uid).toMatch(/^fn-[0-9a-f]{12}$/);
    expect(JSON.stringify(panels)).not.toMatch(/GATEWAY_JOB|CONTROLLER_JOB|RELEASE_/);
  });

  it('by Services of its own, which the monitor finds', () => {
    const { selector, endpoints } = z
      .object({
        selector: z.object({ matchLabels: z.record(z.string(), z.string()) }),
        endpoints: z.array(z.looseObject({ port: z.string() })),
      })
      .parse(chart.get('ServiceMonitor', 'prod-fn').spec);
    const found = chart
      .of('Service')
      .filter(({ metadata }) => Object.entries(selector.matchLabels).every(([name, value]) => metadata.labels[name] === value))
      .filter(({ spec }) => JSON.stringify(spec).includes(`"name":"${endpoints[0]?.port}"`));
    expect(found.map(({ metadata }) => metadata.name)).toEqual(['prod-fn-controller-metrics', 'prod-fn-gateway-metrics']);
  });
});
