/** What the gateway adds to a warm request at one connection, beside the instance by itself. */
import type { BenchContext } from './context.ts';
import { type GeneratorJob, runGenerator } from './generator.ts';
import { atMost, type Figure } from './report.ts';
import { median, spread } from './stats.ts';

export interface Sides {
  gateway: GeneratorJob;
  instance: GeneratorJob;
}

/** Rounds take turns. `direct` says what the instance was asked by. */
export async function addedLatency(
  context: BenchContext,
  { gateway, instance }: Sides,
  { group, direct, rounds }: { group: string; direct: string; rounds: number },
): Promise<Figure[]> {
  const [added, through, alone]: [number[], number[], number[]] = [[], [], []];
  for (let round = 0; round < rounds; round++) {
    const there = (await runGenerator(instance)).latency;
    const via = (await runGenerator(gateway)).latency;
    alone.push(there.p50);
    through.push(via.p50);
    added.push(via.p50 - there.p50);
  }
  const value = median(added);
  context.say(`warm latency added: ${value.toFixed(3)} ms`);
  return [
    {
      group,
      what: 'warm request, 1 connection, p50',
      unit: 'ms',
      value: median(through),
      spread: spread(through),
      against: { what: direct, value: median(alone) },
      ratio: median(through) / median(alone),
    },
    { group, what: 'added by the gateway, p50', unit: 'ms', value, mark: atMost(value, 0.5, 'ms') },
  ];
}
