/** Triggers that have the right shape and still cannot be run: a schedule, a time zone or a filter that nobody understands. */
import { type FieldError, FnError } from '#contract/errors.ts';
import type { Trigger } from '#contract/trigger.ts';
import { checkSchedule } from '#kit/schedule.ts';
import { checkFilter } from '../core/event-filter.ts';
import { pointer } from './problems.ts';

/** Throws FnError invalid with a pointer for each. `above`: path of the trigger of this index, none where it is the whole body. */
export function checkTriggers(triggers: readonly Trigger[], above: (index: number) => readonly PropertyKey[]): void {
  const errors: FieldError[] = triggers.flatMap((trigger, index) =>
    faultsOf(trigger).map(({ field, detail }) => ({ pointer: pointer([...above(index), field]), detail })),
  );
  const [first] = errors;
  if (first === undefined) return;
  const more = errors.length > 1 ? ` (and ${errors.length - 1} more)` : '';
  throw new FnError('invalid', `${first.pointer}: ${first.detail}${more}`, { errors });
}

function faultsOf(trigger: Trigger): { field: string; detail: string }[] {
  const schedule = trigger.type === 'cron' ? checkSchedule(trigger.schedule, trigger.timezone) : null;
  const filter = trigger.filter === null ? null : checkFilter(trigger.filter);
  return [...(schedule === null ? [] : [schedule]), ...(filter === null ? [] : [{ field: 'filter', detail: filter }])];
}
