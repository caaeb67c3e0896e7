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
  { group, direct, rounds, limitMs }: { group: string; direct: string; rounds: number; limitMs: { p50: number; p99: number | null } },
): Promise<Figure[]> {
  const [added, through, alone, addedLate]: [number[], number[], number[], number[]] = [[], [], [], []];
  for (let round = 0; round < rounds; round++) {
    const there = (await runGenerator(instance)).latency;
    const via = (await runGenerator(gateway)).latency;
    alone.push(there.p50);
    through.push(via.p50);
    added.push(via.p50 - there.p50);
    addedLate.push(via.p99 - there.p99);
  }
  const value = median(added);
  const late = median(addedLate);
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
    { group, what: 'added by the gateway, p50', unit: 'ms', value, mark: atMost(value, limitMs.p50, 'ms') },
    {
      group,
      what: 'added by the gateway, p99',
      unit: 'ms',
      value: late,
      ...(limitMs.p99 === null ? {} : { mark: atMost(late, limitMs.p99, 'ms') }),
    },
  ];
}
