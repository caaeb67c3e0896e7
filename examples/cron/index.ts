/** Runs by the clock: a measurement every two seconds, and a report on weekdays at eight in Berlin. */
import type { ScheduledEvent } from 'fn';

/** Megabytes; of the newest measurements. */
const measured: number[] = [];
const MAX_MEASURED = 1_000;
/** A tick may come twice, when the platform did not hear that it was done: its id is the same then. */
let newest = '';

export default {
  scheduled({ id, cron, scheduledTime, timezone, data, event }: ScheduledEvent<{ days: number }>) {
    if (event.trigger === 'report') return { days: data?.days, highest: Math.max(0, ...measured) };
    if (id === newest) return undefined;
    newest = id;
    measured.push(Math.round(process.memoryUsage.rss() / 1_000_000));
    if (measured.length > MAX_MEASURED) measured.shift();
    // What it returns is the result of the invocation: `fn invocation list cron`.
    return { measured: measured.at(-1), due: new Date(scheduledTime).toISOString(), cron, timezone };
  },

  fetch: (): Response => Response.json({ ticked: measured.length > 0 }),
};
