/** What a function that takes all the CPU it can get does to its neighbour; and what a sandbox costs. */
import { type BenchContext, HELLO, type Measurement, allCold, rounds, timed } from './context.ts';
import { runGenerator } from './generator.ts';
import type { Figure } from './report.ts';
import { median, spread } from './stats.ts';

/** Twice the processes that the machine has cores: what they get is theirs by weight, not by being few. */
const HOG = `
import { spawn } from 'node:child_process';
import { availableParallelism } from 'node:os';
let hogs = [];
export default (request) => {
  for (const hog of hogs.splice(0)) hog.kill('SIGKILL');
  if (request.url.endsWith('/start')) hogs = Array.from({ length: 2 * availableParallelism() }, () => spawn(process.execPath, ['-e', 'for(;;);'], { stdio: 'ignore' }));
  return new Response(String(hogs.length));
};
`;

async function besideHog(context: BenchContext): Promise<Figure[]> {
  const { platform } = context;
  await platform.deploy('neighbour', HELLO, { flags: ['--min', '1', '--max', '1'] });
  await platform.deploy('hog', HOG, { file: 'hog.mjs', flags: ['--cpu', '2', '--memory', '512', '--max', '1', '--min', '1'] });
  const job = { target: { port: platform.port }, path: '/neighbour', connections: 1, durationMs: 2_000, warmUpMs: 300 };
  const [calm, beside, ratios]: [number[], number[], number[]] = [[], [], []];
  for (let round = 0; round < rounds(context, 7); round++) {
    await timed(platform, '/hog/stop');
    calm.push((await runGenerator(job)).latency.p99);
    const { answer } = await timed(platform, '/hog/start');
    if (Number(answer.text) < 2) throw new Error(`the hog did not start: ${answer.text}`);
    const hogged = await runGenerator(job);
    if (hogged.errors > 0) throw new Error(`${hogged.errors} requests of the neighbour failed`);
    beside.push(hogged.latency.p99);
    ratios.push(beside.at(-1)! / calm.at(-1)!);
  }
  await timed(platform, '/hog/stop');
  const ratio = median(ratios);
  context.say(`neighbour of a CPU hog: p99 ${median(beside).toFixed(2)} ms, ${ratio.toFixed(2)} × that without it`);
  return [
    {
      group: 'neighbour',
      what: 'p99 beside a function that spins on every core',
      unit: 'ms',
      value: median(beside),
      spread: spread(beside),
      against: { what: 'without it', value: median(calm) },
      ratio,
      mark: { says: '≤ 2 × without it', met: ratio <= 2 },
    },
  ];
}

async function inSandbox(context: BenchContext): Promise<Figure[]> {
  const { platform } = context;
  const flags = ['--memory', '256', '--keep-alive', '1', '--egress', 'none'];
  await platform.deploy('box-runc', HELLO, { flags });
  const boxed = await platform.deploy('box-gvisor', HELLO, { flags: [...flags, '--sandbox', 'gvisor'], mayFail: true });
  if (/sandbox/.test(boxed.stderr) && boxed.code !== 0) {
    context.say('no gVisor here: docs/security.md says how the engine gets it');
    return [];
  }
  if (boxed.code !== 0) throw new Error(boxed.stderr);
  const seen = { 'cold runc': [] as number[], 'cold gvisor': [] as number[], 'warm runc': [] as number[], 'warm gvisor': [] as number[] };
  for (let round = 0; round < rounds(context, 7); round++) {
    for (const kind of ['runc', 'gvisor'] as const) {
      await allCold(platform, `box-${kind}`);
      const { answer } = await timed(platform, `/box-${kind}`);
      if (answer.status !== 200) throw new Error(`${kind}: ${answer.status} ${answer.text}`);
      seen[`cold ${kind}`].push(answer.ms);
      const warm = await runGenerator({
        target: { port: platform.port },
        path: `/box-${kind}`,
        connections: 1,
        durationMs: 1_000,
        warmUpMs: 300,
      });
      seen[`warm ${kind}`].push(warm.latency.p50);
    }
  }
  return (['cold', 'warm'] as const).map((heat) => {
    const [value, other] = [median(seen[`${heat} gvisor`]), median(seen[`${heat} runc`])];
    context.say(`${heat} in gVisor: ${value.toFixed(2)} ms, in runc ${other.toFixed(2)} ms`);
    return {
      group: 'sandbox',
      what: `${heat === 'cold' ? 'first request' : 'warm request, p50'}, in gVisor`,
      unit: 'ms' as const,
      value,
      spread: spread(seen[`${heat} gvisor`]),
      against: { what: 'runc', value: other },
      ratio: value / other,
    };
  });
}

export const neighbour: Measurement = { group: 'neighbour', run: besideHog };
export const sandbox: Measurement = { group: 'sandbox', run: inSandbox };
