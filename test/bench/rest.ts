/** From `fn deploy` to the first 200, and what the platform weighs at rest. */
import type { TestPlatform } from '../helpers/platform.ts';
import { sleep, waitFor } from '../helpers/wait.ts';
import { type BenchContext, HELLO, type Measurement, quiet, rounds, timed } from './context.ts';
import { parentOf, pssMib } from './host.ts';
import { type Figure, atMost } from './report.ts';
import { median, spread } from './stats.ts';

async function deployToFirst(context: BenchContext): Promise<Figure[]> {
  const { platform } = context;
  const samples: number[] = [];
  for (let round = 0; round < rounds(context, 10); round++) {
    await quiet(platform, 1);
    const started = performance.now();
    // A change each time, as when one works on it: the bundle is built and sent.
    await platform.deploy('edited', `export default { fetch: () => new Response('edit ${round}\\n') };\n`);
    const { answer } = await timed(platform, '/edited');
    samples.push(performance.now() - started);
    if (answer.status !== 200 || answer.text !== `edit ${round}\n`) throw new Error(`after the deploy: ${answer.status} ${answer.text}`);
  }
  const value = median(samples);
  context.say(`deploy to first 200: ${value.toFixed(0)} ms`);
  return [
    {
      group: 'deploy',
      what: 'fn deploy to first 200, p50',
      unit: 'ms',
      value,
      spread: spread(samples),
      mark: atMost(value, 1_000, 'ms'),
      note: 'the whole command: start of the CLI, bundling, upload, specialising, routing',
    },
  ];
}

async function weigh(platform: TestPlatform) {
  const status = await platform.status();
  if (status.gateway.pid === null) throw new Error('no gateway');
  const parts = { supervisor: parentOf(status.controller.pid), gateway: status.gateway.pid, controller: status.controller.pid };
  return { supervisor: pssMib(parts.supervisor), gateway: pssMib(parts.gateway), controller: pssMib(parts.controller) };
}

async function memory(context: BenchContext): Promise<Figure[]> {
  const fresh = await context.start({});
  await fresh.deploy('idle', HELLO, { flags: ['--min', '1'] });
  await timed(fresh, '/idle');
  await quiet(fresh, 0);
  await sleep(2_000);
  const rested = await weigh(fresh);
  const used = await weigh(context.platform);
  const instance = await waitFor('the idle instance', async () => (await fresh.instances('idle')).find(({ pid }) => pid !== undefined));
  const sum = (parts: Awaited<ReturnType<typeof weigh>>) => parts.supervisor + parts.gateway + parts.controller;
  const [restedMib, usedMib] = [sum(rested), sum(used)];
  context.say(`memory: ${restedMib.toFixed(0)} MiB at rest, ${usedMib.toFixed(0)} MiB after the run`);
  return [
    ...(['supervisor', 'gateway', 'controller'] as const).map((part): Figure => {
      const against = { what: 'after this run', value: used[part] };
      return { group: 'memory', what: `PSS of the ${part}, at rest`, unit: 'MiB', value: rested[part], against };
    }),
    { group: 'memory', what: 'PSS of the three, at rest', unit: 'MiB', value: restedMib, mark: atMost(restedMib, 250, 'MiB') },
    { group: 'memory', what: 'PSS of the three, after this run', unit: 'MiB', value: usedMib, mark: atMost(usedMib, 250, 'MiB') },
    { group: 'memory', what: 'PSS of one idle instance', unit: 'MiB', value: pssMib(instance.pid!) },
  ];
}

export const deployFirst: Measurement = { group: 'deploy', run: deployToFirst };
export const memoryAtRest: Measurement = { group: 'memory', run: memory };
