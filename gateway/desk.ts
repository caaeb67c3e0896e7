/**
 * What is kept at hand of a revision by those who work for it with every request. Each finds its own once, by name, and then has it:
 * of a thousand functions in turns every look into a table is a miss of the processor's cache, or several.
 */
import type { Demand } from './demand.ts';
import type { FunctionSeries } from './metrics.ts';
import type { RevisionCounts } from './tally.ts';
import type { Upstream } from './upstream.ts';

/** Each field is its owner's, who says when it is good no more. */
export class Desk {
  demand: Demand<Upstream> | null = null;
  counts: RevisionCounts | null = null;
  series: FunctionSeries | null = null;
}
