/** Changes of a function as a person reads them. */
import { isDeepStrictEqual } from 'node:util';
import { z } from 'zod';
import { RouteSpec, routeText } from '#contract/access.ts';
import { Trigger } from '#contract/trigger.ts';
import type { Change } from './compare.ts';
import { printable } from './output.ts';
import { triggerText } from './trigger-text.ts';

const Fields = z.record(z.string(), z.unknown());

const UNITS: Readonly<Record<string, string>> = { memory: ' MiB', cpu: ' cores', timeout: ' s', keepAlive: ' s', maxStream: ' s' };
/** Of a digest; the whole is in --json. */
const DIGEST_CHARACTERS = 12;

/** One line for each, aligned: `memory  128 MiB → 256 MiB`. Values of variables are not shown, as in fn describe. */
export function changeLines(changes: readonly Change[]): string[] {
  const lines = changes.flatMap(({ field, from, to }): [string, string][] => {
    if (field === 'routes') return routeLines(from, to);
    if (field.startsWith('env.')) return [[field, from === null ? 'added' : to === null ? 'removed' : 'changed']];
    if (field === 'async') return fieldLines(field, from, to);
    if (field.startsWith('triggers.')) return triggerLines(field, from, to);
    if (field === 'code') return [[field, `${digest(from)} → ${digest(to)}`]];
    return [[field, `${text(field, from)} → ${text(field, to)}`]];
  });
  const width = Math.max(0, ...lines.map(([field]) => field.length));
  return lines.map(([field, what]) => printable(`${field.padEnd(width)}  ${what}`));
}

const digest = (value: unknown): string =>
  String(value)
    .replace(/^sha256:/, '')
    .slice(0, DIGEST_CHARACTERS);

function text(field: string, value: unknown): string {
  if (value === null || value === undefined) return 'none';
  if (typeof value === 'object')
    return Array.isArray(value) && value.every((one) => typeof one === 'string') ? value.join(', ') || 'none' : JSON.stringify(value);
  // `auto` has no unit.
  return `${String(value)}${typeof value === 'number' ? (UNITS[field] ?? '') : ''}`;
}

function routeLines(from: unknown, to: unknown): [string, string][] {
  const [before, after] = [from, to].map((routes) => RouteSpec.array().parse(routes).map(fullRoute));
  return [
    ...before!.filter((route) => !after!.includes(route)).map((route): [string, string] => ['routes', `− ${route}`]),
    ...after!.filter((route) => !before!.includes(route)).map((route): [string, string] => ['routes', `+ ${route}`]),
  ];
}

/** Of two objects, what is different in them: `async.maxAttempts  3 → 5`. */
function fieldLines(field: string, from: unknown, to: unknown): [string, string][] {
  const [before, after] = [Fields.parse(from), Fields.parse(to)];
  return [...new Set([...Object.keys(before), ...Object.keys(after)])]
    .filter((name) => !isDeepStrictEqual(before[name], after[name]))
    .map((name) => [`${field}.${name}`, `${text(name, before[name])} → ${text(name, after[name])}`]);
}

/** A trigger that comes or goes in one line, one that changes with a line for each field. */
function triggerLines(field: string, from: unknown, to: unknown): [string, string][] {
  if (from !== null && to !== null) return fieldLines(field, from, to);
  const trigger = Trigger.parse(from ?? to);
  return [[field, `${from === null ? '+' : '−'} ${triggerText(trigger)}`]];
}

const fullRoute = (route: RouteSpec): string =>
  `${routeText(route)}${route.stripPrefix === undefined ? '' : ` (without ${route.stripPrefix})`}`;
