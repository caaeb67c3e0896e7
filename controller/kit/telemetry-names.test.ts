import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ATTRIBUTES, CONTROLLER_METRICS, GATEWAY_METRICS, type MetricSpec, SPANS } from './telemetry-names.ts';

const text = readFileSync(join(import.meta.dirname, '../../docs/observability.md'), 'utf8');
const metrics: [string, MetricSpec][] = Object.entries<MetricSpec>({ ...GATEWAY_METRICS, ...CONTROLLER_METRICS });

describe('docs/observability.md', () => {
  it.each(metrics)('has %s as it is', (name, { kind, labels, help }) => {
    expect(text).toContain(`| \`${name}\` | ${kind} | ${labels.map((label) => `\`${label}\``).join(', ')} | ${help} |`);
  });

  it('has no metric that there is not', () => {
    const named = [...text.matchAll(/^\| `([a-z_]+)` \| (?:counter|gauge|histogram) \|/gm)].map((match) => match[1]);
    expect(named.toSorted()).toEqual(metrics.map(([name]) => name).toSorted());
  });

  it.each(Object.values(ATTRIBUTES))('has the attribute %s', (name) => expect(text).toContain(`\`${name}\``));

  it.each(Object.values(SPANS).filter((name) => name !== SPANS.request))('has the span %s', (name) => expect(text).toContain(`─ ${name} `));
});

describe('the name of a metric', () => {
  it.each(metrics)('%s says what it counts in', (name, { kind, unit, bounds }) => {
    expect(name).toMatch(/^(?:fn|process)_[a-z_]+$/);
    expect(name.endsWith('_total')).toBe(kind === 'counter');
    if (unit === 's') expect(name).toMatch(/_seconds(?:_total)?$/);
    if (unit === 'By') expect(name).toMatch(/_bytes$/);
    expect(bounds === undefined).toBe(kind !== 'histogram');
  });
});
