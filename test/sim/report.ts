/** The tables that people read: a column per run, and a row per figure. */
import type { Traffic } from './gateway.ts';
import type { RunResult } from './run.ts';

const figure = (value: number): string => {
  if (!Number.isFinite(value)) return '–';
  if (Math.abs(value) >= 100) return Math.round(value).toLocaleString('en');
  return Math.abs(value) >= 10 ? value.toFixed(1) : value.toFixed(2);
};
const pair = (a: number, b: number): string => `${figure(a)} / ${figure(b)}`;

function table(head: string[], rows: string[][]): string {
  const all = [head, ...rows];
  const widths = head.map((_, column) => Math.max(...all.map((row) => row[column]!.length)));
  const line = (row: string[]) => `| ${row.map((cell, column) => cell.padEnd(widths[column]!)).join(' | ')} |`;
  return [line(head), line(widths.map((width) => '-'.repeat(width))), ...rows.map(line)].join('\n');
}

/** Messages and bytes of all types, to gateways or from them. */
export function total(link: Traffic, direction: 'to' | 'from'): { messages: number; bytes: number } {
  const all = Object.entries(link).filter(([type]) => type.startsWith(direction));
  return {
    messages: all.reduce((sum, [, entry]) => sum + entry.messages, 0),
    bytes: all.reduce((sum, [, entry]) => sum + entry.bytes, 0),
  };
}

type Row = [string, (result: RunResult) => string];

const COMMON: Row[] = [
  ['requests/s', ({ traffic }) => figure(traffic.requestsPerSecond)],
  ['cold starts/s', ({ controller }) => figure(controller.claims / controller.seconds)],
  ['instances of functions, generic', ({ controller: { instances } }) => pair(instances.serving, instances.generic)],
  ['CPU of the controller, cores', ({ controller }) => figure(controller.cpu)],
  ['… per cold start, µs', ({ controller }) => figure(controller.cpuMicrosPerColdStart)],
  ['planner: passes/s', ({ controller }) => figure(controller.passes.perSecond)],
  ['… ms per pass p50 / p99', ({ controller: { passes } }) => pair(passes.ms.p50, passes.ms.p99)],
  ['… revisions looked at per pass', ({ controller: { passes } }) => figure(passes.revisions)],
  ['… µs per decision', ({ controller }) => figure(controller.cpuMicrosPerDecision)],
  ['… share of a core', ({ controller: { passes } }) => figure(passes.busy)],
  ['event loop delay p99 / max, ms', ({ controller: { loopDelayMs } }) => pair(loopDelayMs.p99, loopDelayMs.max)],
  ['want to grant, warm p50 / p99, ms', ({ traffic: { kinds } }) => pair(kinds.warm.waitMs.p50, kinds.warm.waitMs.p99)],
  ['… cold from the pool p50 / p99, ms', ({ traffic: { kinds } }) => pair(kinds.pooled.waitMs.p50, kinds.pooled.waitMs.p99)],
  ['… cold in full: share, p50 ms', ({ traffic: { kinds } }) => fullShare(kinds)],
  ['requests that failed', ({ traffic }) => figure(Object.values(traffic.failed).reduce((sum, count) => sum + count, 0))],
  ['deployments: p50 / p99, ms', ({ controller }) => pair(controller.deployMs.p50, controller.deployMs.p99)],
  ['RSS / heap, MiB', ({ controller: { memory } }) => pair(memory.rssMib, memory.heapMib)],
];

function fullShare({ pooled, full }: RunResult['traffic']['kinds']): string {
  const share = full.count / Math.max(1, pooled.count + full.count);
  return `${(share * 100).toFixed(1)} %, ${figure(full.waitMs.p50)}`;
}

const UPHEAVALS: Row[] = [
  ['link: messages/s to / from gateways', ({ traffic }) => perSecond(traffic, 'messages', 1)],
  ['… KiB/s to / from gateways', ({ traffic }) => perSecond(traffic, 'bytes', 1_024)],
  ['snapshot for a gateway, MiB', ({ reconnect }) => figure((reconnect?.one.bytes ?? Number.NaN) / 1_048_576)],
  ['… until it is there, read, checked, ms', ({ reconnect }) => (reconnect ? snapshot(reconnect.one) : '–')],
  ['… for all gateways at once, ms', ({ reconnect }) => figure(reconnect?.allMs ?? Number.NaN)],
  ['restart: instances adopted / there', ({ adoption }) => pair(adoption?.adopted ?? Number.NaN, adoption?.instances ?? Number.NaN)],
  ['… ms, of it CPU', ({ adoption }) => pair(adoption?.startMs ?? Number.NaN, adoption?.cpuMs ?? Number.NaN)],
  ['… until all gateways are back, ms', ({ adoption }) => figure(adoption?.gatewaysMs ?? Number.NaN)],
];

const snapshot = ({ waitMs, jsonMs, checkMs }: { waitMs: number; jsonMs: number; checkMs: number }): string =>
  `${figure(waitMs)} + ${figure(jsonMs)} + ${figure(checkMs)}`;

function perSecond({ link, seconds }: RunResult['traffic'], what: 'messages' | 'bytes', unit: number): string {
  return pair(total(link, 'to')[what] / unit / seconds, total(link, 'from')[what] / unit / seconds);
}

const columns = (results: RunResult[], name: (result: RunResult) => string): string[] => ['', ...results.map(name)];
const rowsOf = (rows: Row[], results: RunResult[]): string[][] => rows.map(([what, of]) => [what, ...results.map(of)]);

export const sizeTable = (results: RunResult[]): string =>
  table(
    columns(results, ({ shape }) => `${shape.functions.toLocaleString('en')} functions, ${shape.gateways} gateways`),
    rowsOf([...COMMON, ...UPHEAVALS], results),
  );

export const kneeTable = (results: RunResult[]): string =>
  table(
    columns(results, ({ shape }) => `${shape.coldPerSecond} cold/s asked`),
    rowsOf(COMMON, results),
  );

/** Of the largest run: what goes over the links, by type, per cold start. */
export function linkTable(results: RunResult[]): string {
  const last = results.at(-1)!;
  const { claims } = last.controller;
  const rows = Object.entries(last.traffic.link)
    .toSorted(([, a], [, b]) => b.bytes - a.bytes)
    .map(([type, { messages, bytes }]) => [
      type,
      figure(messages / last.traffic.seconds),
      figure(bytes / 1_024 / last.traffic.seconds),
      figure(messages / claims),
      figure(bytes / claims),
    ]);
  return table(['message', 'per second, all links', 'KiB/s', 'per cold start', 'bytes per cold start'], rows);
}
