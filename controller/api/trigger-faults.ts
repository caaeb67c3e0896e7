/** Triggers that have the right shape and still cannot be run: a schedule, a time zone or a filter that nobody understands. */
import { type FieldError, FnError } from '#contract/errors.ts';
import type { Trigger } from '#contract/trigger.ts';
import type { TriggerFaults } from './env.ts';

/** Throws FnError invalid with a pointer for each. `above`: pointer of the trigger of this index, '' where it is the whole body. */
export function checkTriggers(triggers: readonly Trigger[], faultsOf: TriggerFaults, above: (index: number) => string): void {
  const errors: FieldError[] = triggers.flatMap((trigger, index) =>
    faultsOf(trigger).map(({ field, detail }) => ({ pointer: `${above(index)}/${field}`, detail })),
  );
  const [first] = errors;
  if (first === undefined) return;
  const more = errors.length > 1 ? ` (and ${errors.length - 1} more)` : '';
  throw new FnError('invalid', `${first.pointer}: ${first.detail}${more}`, { errors });
}
