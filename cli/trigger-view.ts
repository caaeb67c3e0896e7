/** How triggers look: a table of them, and one with all that is known of it. */
import type { Trigger, TriggerView } from '#contract/trigger.ts';
import { fields, formatAge, printable, table } from './output.ts';
import { destinationText, triggerText } from './trigger-text.ts';

/** `failing`, and the reason of the broker in the line below the table. */
export function renderTriggers(views: readonly TriggerView[], now: number): string {
  const lines = table(
    [
      { title: 'FUNCTION', value: (row) => row.function },
      { title: 'TRIGGER', value: (row) => row.trigger.name },
      { title: 'STATE', value: (row) => row.status.state },
      { title: 'LAG', value: (row) => (row.status.lag === null ? '–' : String(row.status.lag)), align: 'right' },
      { title: 'RUNNING', value: (row) => `${row.status.inFlight}/${row.status.concurrency}`, align: 'right' },
      { title: 'DONE', value: (row) => String(row.status.succeeded), align: 'right' },
      { title: 'FAILED', value: (row) => String(row.status.failed), align: 'right' },
      { title: 'DEAD', value: (row) => String(row.status.deadLettered), align: 'right' },
      { title: 'LAST', value: (row) => ago(row.status.lastEventAt, now), align: 'right' },
      { title: 'WHAT', value: (row) => printable(triggerText(row.trigger)) },
    ],
    views,
  );
  const troubled = views.filter(({ status }) => status.detail !== null);
  return lines + troubled.map((view) => `${view.function}/${view.trigger.name}: ${printable(view.status.detail ?? '')}\n`).join('');
}

const ago = (at: number | null, now: number): string => (at === null ? '–' : formatAge(Math.max(0, now - at) / 1_000));

/** All of one. References to secrets are shown as they are written. */
export function renderTrigger({ namespace, function: name, trigger, status, url }: TriggerView, now: number): string {
  const { lag, nextAt, lastEventAt, detail } = status;
  return fields([
    ['trigger', `${trigger.name} of ${namespace}/${name}`],
    ['what', printable(triggerText(trigger))],
    ['state', status.state],
    ...optional('why', detail === null ? null : printable(detail)),
    ...optional('url', url),
    ...optional('next', nextAt === null ? null : new Date(nextAt).toISOString()),
    ...optional('lag', lag === null ? null : String(lag)),
    // One that is paused makes no calls; those of a webhook are made by the function's queue.
    ['running', status.concurrency === 0 ? String(status.inFlight) : `${status.inFlight} of ${status.concurrency} at most`],
    ['events', `${status.succeeded} done, ${status.failed} failed attempts, ${status.deadLettered} dead, ${status.filtered} filtered out`],
    ...optional('last event', lastEventAt === null ? null : `${ago(lastEventAt, now)} ago`),
    ['path', trigger.path],
    [
      'attempts',
      `${trigger.maxAttempts}, for ${span(trigger.maxAgeSeconds)}; pauses up to ${span(trigger.retryBaseSeconds)}, then ${span(trigger.retryMaxSeconds)}`,
    ],
    ...batchFields(trigger),
    ...optional('filter', trigger.filter === null ? null : printable(JSON.stringify(trigger.filter))),
    [
      'dead letters',
      trigger.deadLetter === null ? `fn dlq list ${name} --trigger ${trigger.name}` : printable(destinationText(trigger.deadLetter)),
    ],
  ]);
}

const optional = (label: string, value: string | null): (readonly [string, string])[] => (value === null ? [] : [[label, value]]);

const UNITS = [
  [86_400, 'd'],
  [3_600, 'h'],
  [60, 'm'],
] as const;

/** Seconds as fn.yaml has them where they are whole of a unit. */
export function span(seconds: number): string {
  if (seconds < 1) return `${seconds * 1_000}ms`;
  const unit = UNITS.find(([size]) => seconds % size === 0);
  return unit === undefined ? `${seconds}s` : `${seconds / unit[0]}${unit[1]}`;
}

function batchFields(trigger: Trigger): (readonly [string, string])[] {
  if (!('batchSize' in trigger)) return [];
  const { batchSize, batchWindowMs, concurrency } = trigger;
  const window = batchWindowMs === 0 ? '' : `, or what came within ${span(batchWindowMs / 1_000)}`;
  return [
    ['batch', batchSize === 1 ? 'an event a call' : `up to ${batchSize} a call${window}`],
    ['concurrency', concurrency === null ? 'by backlog' : String(concurrency)],
  ];
}
