/** The policies against a trace: figures that were found by another simulator, and cases that are worked by hand. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { fixed } from '../../controller/core/keep-alive/policy.ts';
import { COMPARED, policyOf } from './policies.ts';
import { compare, compareEvictions, type Line } from './report.ts';
import { replay } from './replay.ts';
import { replayLoad } from './replay-load.ts';
import { readTrace, type Trace } from './trace.ts';

const OWN = join(import.meta.dirname, 'fixtures/azure-2019');

/** One function, invoked in these minutes. */
const trace = (minutes: number[], durationMs = 0): Trace => ({
  minutes: 1_440,
  functions: [
    {
      id: 'o/a/f',
      minutes,
      counts: minutes.map(() => 1),
      invocations: minutes.length,
      durationsMs: Array<number>(5).fill(durationMs),
      memoryMib: 128,
    },
  ],
});

describe('a replay', () => {
  it('counts as by hand: ten minutes, uses at 0, 5, 15, 26', () => {
    // Idle for 5, 10, 11 and, to the end, 1,414 minutes: kept 5 + 10 + 10 + 10, and the last use finds nothing.
    expect(replay(trace([0, 5, 15, 26]), () => fixed(600_000))).toEqual({
      functions: 1,
      invocations: 4,
      coldStarts: 2,
      prewarmed: 0,
      unusedMinutes: 35,
      coldPercent: [50],
    });
  });

  it('with time inside of the minutes: a second instance where the first is busy, and it is not counted as idle while it works', () => {
    const busy = trace([0], 90_000);
    busy.functions[0]!.counts = [3];
    busy.functions[0]!.invocations = 3;
    const of = (concurrency: number) => replayLoad(busy, () => fixed(600_000), { seed: 1, concurrency });
    expect(of(1)).toMatchObject({ coldStarts: 3, invocations: 3 });
    expect(of(2).coldStarts).toBe(2);
    expect(of(3).coldStarts).toBe(1);
    expect(of(3).unusedMinutes).toBeCloseTo(10, 6);
    // Those beside the last one go after five minutes.
    expect(of(1).unusedMinutes).toBeCloseTo(20, 6);
    expect(of(2)).toEqual(of(2));
  });

  it('knows the files of the data set, day by day', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'fn-trace-'));
    try {
      const minutes = Array.from({ length: 1_440 }, (_, index) => index + 1);
      const row = (...at: number[]) => `o,a,f,http,${minutes.map((minute) => (at.includes(minute) ? 2 : 0)).join()}`;
      const head = `HashOwner,HashApp,HashFunction,Trigger,${minutes.join()}`;
      await writeFile(join(folder, 'invocations_per_function_md.anon.d01.csv'), `${head}\n${row(1, 1_440)}\n`);
      await writeFile(join(folder, 'invocations_per_function_md.anon.d02.csv'), `${head}\r\n${row(2)}\r\n`);
      await writeFile(join(folder, 'app_memory_percentiles.anon.d01.csv'), 'HashOwner,HashApp,SampleCount,AverageAllocatedMb\no,a,3,99\n');
      expect(await readTrace(folder)).toMatchObject({
        minutes: 2_880,
        functions: [{ id: 'o/a/f', minutes: [0, 1_439, 1_441], counts: [2, 2, 2], invocations: 6, memoryMib: 99 }],
      });
      await writeFile(join(folder, 'invocations_per_function_md.anon.d03.csv'), `${head}\n${row(1).replace(',2,', ',-1,')}\n`);
      await expect(readTrace(folder)).rejects.toThrow('"-1" is no number of invocations');
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  it('says of a file that is none where it is wrong', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'fn-trace-'));
    const minutes = Array.from({ length: 1_440 }, (_, index) => index + 1);
    const head = `HashOwner,HashApp,HashFunction,Trigger,${minutes.join()}`;
    const row = `o,a,f,http,${minutes.map(() => 1).join()}`;
    const refused = async (text: string, why: string, durations = '') => {
      await writeFile(join(folder, 'invocations.csv'), text);
      await writeFile(join(folder, 'durations.csv'), durations || 'HashOwner,HashApp,HashFunction,');
      await expect(readTrace(folder)).rejects.toThrow(why);
    };
    try {
      await expect(readTrace(join(folder, 'none'))).rejects.toThrow('none is no folder');
      await expect(readTrace(folder)).rejects.toThrow('holds neither invocations.csv');
      await refused('', 'invocations.csv is empty');
      await refused('a,b,c\n', 'has no column HashOwner');
      await refused(`${head}\n`, 'no invocation in it');
      await refused(`${head}\n${row}\no,a,f\n`, 'invocations.csv:3 has 3 cells, and the head 1444');
      await refused(`${head}\n${row.replace(',1,', ',,')}\n`, 'invocations.csv:2: "" is no number (minute 1)');
      await refused(`${head}\n${row.replace(',1,', ',x,')}\n`, 'invocations.csv:2: "x" is no number (minute 1)');
      const columns = [0, 25, 50, 75, 100].map((percent) => `percentile_Average_${percent}`);
      const durations = `HashOwner,HashApp,HashFunction,${columns.join()}\no,a,f,1,2,3,4,much\n`;
      await refused(`${head}\n${row}\n`, 'durations.csv:2: "much" is no number', durations);
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  it.each(['fixed', 'fixed:x', 'hybrid:241', 'hybrid:0', 'adaptive:0', 'adaptive:1:2:3', 'lru'])('knows no policy %s', (name) => {
    expect(() => policyOf(name)).toThrow('is no policy');
  });
});

/** By the same rules: 45 functions of a day, to the last digit that is shown; every thirtieth of the sample that is spoken of below. */
describe('the policies on a trace of Azure', async () => {
  const own = compare(await readTrace(OWN), COMPARED);
  const line = (policy: string, lines = own): Line => lines.find((each) => each.policy === policy)!;

  it('each as published', () => {
    const figures = own.map(({ policy, coldMedian, coldThirdQuartile, coldPer100, waste }) =>
      [policy, coldMedian.toFixed(1), coldThirdQuartile.toFixed(1), coldPer100.toFixed(3), waste.toFixed(0)].join(' '),
    );
    expect(figures).toMatchInlineSnapshot(`
      [
        "fixed:5 14.3 100.0 1.394 96",
        "fixed:10 14.3 100.0 0.921 100",
        "fixed:20 8.9 100.0 0.716 106",
        "fixed:60 4.0 50.0 0.372 124",
        "fixed:120 2.2 50.0 0.334 136",
        "hybrid:60 5.3 100.0 0.892 48",
        "hybrid:240 4.3 75.0 0.807 68",
        "adaptive 3.6 50.0 0.358 101",
        "adaptive:110:0.25 3.6 50.0 0.334 67",
      ]
    `);
  });

  it('the adaptive ones have fewer cold starts than the hybrid, at no more waste', async () => {
    const hybrid = line('hybrid:240');
    const cheap = line('adaptive:110:0.25');
    for (const figure of ['coldMedian', 'coldThirdQuartile', 'coldPer100', 'waste', 'prewarmed'] as const)
      expect([figure, cheap[figure] <= hybrid[figure]]).toEqual([figure, true]);
    expect(cheap.coldStarts).toBeLessThan(0.6 * hybrid.coldStarts);
    // With time inside of the minutes nothing is saved by going between two minutes: there the platform's default is measured.
    const load = compare(await readTrace(OWN), ['hybrid:240', 'adaptive'], { seed: 1, concurrency: 50 });
    expect(line('adaptive', load).waste).toBeLessThanOrEqual(line('hybrid:240', load).waste);
    expect(line('adaptive', load).coldStarts).toBeLessThan(0.6 * line('hybrid:240', load).coldStarts);
  });

  it('who is worth least goes, rather than who is idle for longest: fewer cold starts where memory is short', async () => {
    for (const limitMib of [1_500, 2_000, 2_500]) {
      const [idle, gdsf] = compareEvictions(await readTrace(OWN), ['adaptive'], limitMib);
      expect(idle!.evicted).toBeGreaterThan(0);
      expect([limitMib, gdsf!.coldStarts <= idle!.coldStarts]).toEqual([limitMib, true]);
    }
  });

  /** With FN_TRACE=FOLDER: the sample of 1,350 functions, and what an independent simulator found for it, to the digits that it gave. */
  const { FN_TRACE } = process.env;
  const whole = FN_TRACE === undefined ? [] : [FN_TRACE];
  for (const folder of whole)
    it('as an independent simulator has it, of the whole sample', async () => {
      const policies = ['fixed:10', 'fixed:20', 'fixed:60', 'fixed:120', 'hybrid:60', 'hybrid:240', 'adaptive:110:0.25'];
      const lines = compare(await readTrace(folder), policies);
      const figures = lines
        .slice(0, 6)
        .map((each) => [each.coldMedian.toFixed(1), each.coldThirdQuartile.toFixed(1), each.coldPer100.toFixed(3), each.waste.toFixed(0)]);
      expect(figures).toEqual([
        ['36.4', '100.0', '1.278', '100'],
        ['20.0', '83.3', '0.680', '113'],
        ['7.4', '66.7', '0.323', '139'],
        ['4.2', '40.0', '0.230', '157'],
        ['14.3', '100.0', '0.653', '65'],
        ['12.1', '60.0', '0.521', '91'],
      ]);
      expect(lines[6]!.coldPer100).toBeLessThan(0.6 * 0.521);
      expect(lines[6]!.waste).toBeLessThan(91);
    });
});
