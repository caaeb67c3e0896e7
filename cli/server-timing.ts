/** The Server-Timing header of the gateway: where the time of a request went. */
import { formatMs } from './output.ts';

export interface Timing {
  /** ms; absent where the header does not say. */
  phases: Record<string, number>;
  /** warm, pooled or full. */
  start: string | null;
}

const START_KINDS: ReadonlySet<string> = new Set(['warm', 'pooled', 'full']);

/** `queue;dur=0.1, start;dur=3;desc="pooled"` and the like (W3C Server-Timing). */
export function parseServerTiming(header: string | string[] | undefined): Timing {
  const timing: Timing = { phases: {}, start: null };
  const text = Array.isArray(header) ? header.join(', ') : (header ?? '');
  for (const metric of text.split(/,(?=(?:[^"]*"[^"]*")*[^"]*$)/)) {
    const [name = '', ...parameters] = metric.split(';').map((part) => part.trim());
    if (START_KINDS.has(name)) timing.start = name;
    for (const parameter of parameters) {
      const [key, raw = ''] = parameter.split('=', 2);
      const value = raw.replace(/^"|"$/g, '');
      if (key === 'dur' && Number.isFinite(Number(value))) timing.phases[name] = Number(value);
      if (key === 'desc' && START_KINDS.has(value)) timing.start = value;
    }
  }
  return timing;
}

/** Phases that take a part of the time; `fn`, the gateway's whole, is their sum. */
const PHASES = ['queue', 'start', 'init', 'handler'] as const;

/** `pooled; queue 0.1 ms, init 3.0 ms`: what took time at all; empty where nothing is known. */
export function describeTiming({ phases, start }: Timing): string {
  const parts = PHASES.filter((name) => (phases[name] ?? 0) > 0).map((name) => `${name} ${formatMs(phases[name]!)}`);
  return [start, parts.join(', ')].filter((part) => part !== null && part !== '').join('; ');
}
