/** What is wrong with a trigger that has the right shape: for the API, when it is set. */
import type { Trigger } from '#contract/trigger.ts';
import { checkSchedule } from '#kit/schedule.ts';
import { checkFilter } from '../core/event-filter.ts';

export function triggerFaults(trigger: Trigger): { field: 'schedule' | 'timezone' | 'filter'; detail: string }[] {
  const faults: ReturnType<typeof triggerFaults> = [];
  if (trigger.type === 'cron') {
    const fault = checkSchedule(trigger.schedule, trigger.timezone);
    if (fault !== null) faults.push(fault);
  }
  const detail = trigger.filter === null ? null : checkFilter(trigger.filter);
  if (detail !== null) faults.push({ field: 'filter', detail });
  return faults;
}
