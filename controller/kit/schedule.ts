/**
 * Schedules in cron's language, in a time zone: whether one can be read, and when it is due.
 *
 * When clocks are put forward, a tick of a fixed hour that does not exist that day (02:30) comes right after the gap; when
 * they are put back, it comes once, the first time. Schedules whose hour is a wildcard or a step follow real time: every
 * 15 minutes stays every 15 minutes.
 */
import { Cron } from 'croner';

const NICKNAMES = new Set(['@hourly', '@daily', '@midnight', '@weekly', '@monthly', '@yearly', '@annually']);

/** What is wrong with a schedule or its time zone, for the one who wrote it; null: it can be run. */
export function checkSchedule(schedule: string, timezone: string): { field: 'schedule' | 'timezone'; detail: string } | null {
  try {
    // Throws a RangeError where there is no such zone.
    Intl.DateTimeFormat('en', { timeZone: timezone });
  } catch {
    return { field: 'timezone', detail: `${timezone} is no time zone: use an IANA name such as Europe/Berlin or UTC.` };
  }
  if (/^[+-]/.test(timezone))
    return { field: 'timezone', detail: 'use an IANA name such as Europe/Berlin: an offset knows no summer time.' };
  const wrong = (detail: string) => ({ field: 'schedule' as const, detail });
  const fields = schedule.trim().split(/\s+/);
  if (schedule.trim().startsWith('@')) {
    if (!NICKNAMES.has(schedule.trim().toLowerCase())) return wrong(`${schedule} is none of ${[...NICKNAMES].join(', ')}.`);
  } else if (fields.length !== 5 && fields.length !== 6) {
    return wrong(`it has ${fields.length} fields: write five (minute hour day month weekday), or six with seconds before them.`);
  }
  try {
    if (nextTick(schedule, timezone, Date.UTC(2024, 0, 1)) === null) return wrong('it never comes: no such day is in the calendar.');
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    return wrong(`it cannot be read: ${message.replace(/^CronPattern: /, '')}`);
  }
  return null;
}

/** When it is due next after `after`, both milliseconds since 1970; null: never again. Throws where it cannot be read. */
export function nextTick(schedule: string, timezone: string, after: number): number | null {
  return new Cron(schedule.trim(), { timezone, mode: '5-or-6-parts', paused: true }).nextRun(new Date(after))?.getTime() ?? null;
}

/** The last ticks in (after, until], oldest first, at most `most`; and how many there were before them: all, or `Infinity` where they are not counted. */
export function ticksBetween(schedule: string, timezone: string, after: number, until: number, most: number): number[] {
  const cron = new Cron(schedule.trim(), { timezone, mode: '5-or-6-parts', paused: true });
  // Backwards from the end: a schedule of every second that was away for a year is not counted through.
  const ticks = cron.previousRuns(most, new Date(until + 1)).map((date) => date.getTime());
  return ticks.filter((tick) => tick > after && tick <= until).sort((a, b) => a - b);
}
