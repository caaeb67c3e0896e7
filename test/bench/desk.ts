/** What a person at a keyboard waits for: `fn dev` after a save, `fn --version`, `fn rollback`. */
import { mkdtempSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { execa } from 'execa';
import { call } from '../helpers/http.ts';
import { RUN_FOLDER, freePort } from '../helpers/platform.ts';
import { ROOT } from '../helpers/root.ts';
import { sleep, waitFor } from '../helpers/wait.ts';
import { type BenchContext, type Measurement, rounds } from './context.ts';
import { type Figure, atMost } from './report.ts';
import { median, spread } from './stats.ts';

/** How often the served answer is looked at: the figure is late by half of it. */
const LOOK_MS = 5;

const says = (word: string) => `export default { fetch: () => new Response('${word}') };\n`;

/** From the moment a file is written to the first answer of the new code, with ten functions in the manifest. */
async function reload(context: BenchContext): Promise<Figure[]> {
  const folder = mkdtempSync(join(RUN_FOLDER, 'desk-'));
  const names = Array.from({ length: 10 }, (_, index) => `f${index}`);
  for (const name of names) writeFileSync(join(folder, `${name}.ts`), says('first'));
  writeFileSync(join(folder, 'fn.yaml'), `functions:\n${names.map((name) => `  ${name}: {entry: ${name}.ts}\n`).join('')}`);
  const port = await freePort();
  const dev = execa(join(ROOT, 'fn'), ['dev', '--port', String(port)], { cwd: folder, reject: false, stdin: 'ignore', stdout: 'ignore' });
  const answer = () =>
    call(`http://127.0.0.1:${port}/f3`).then(
      ({ text }) => text,
      () => '',
    );
  const samples: number[] = [];
  try {
    await waitFor('fn dev to serve', async () => (await answer()) === 'first', { timeoutMs: 60_000 });
    for (let round = 0; round < rounds(context, 20); round++) {
      await sleep(300);
      const begun = performance.now();
      writeFileSync(join(folder, 'f3.ts'), says(`round ${round}`));
      while ((await answer()) !== `round ${round}`) await sleep(LOOK_MS);
      samples.push(performance.now() - begun);
    }
  } finally {
    dev.kill('SIGINT');
    await dev;
  }
  const value = median(samples);
  context.say(`fn dev: ${value.toFixed(0)} ms from saving to serving`);
  return [
    {
      group: 'desk',
      what: 'fn dev: saved to served, p50, ten functions',
      unit: 'ms',
      value,
      spread: spread(samples),
      mark: atMost(value, 300, 'ms'),
      note: 'waiting for the file to settle (40 ms), bundling, specialising a process, routing; process driver',
    },
  ];
}

/** The command as a whole, start of the shell included. */
async function command(context: BenchContext, args: string[], what: string, limitMs: number | null): Promise<Figure> {
  const samples: number[] = [];
  for (let round = 0; round < rounds(context, 20); round++) {
    const begun = performance.now();
    await execa(join(ROOT, 'fn'), args, { env: { FN_HOME: context.platform.home } });
    samples.push(performance.now() - begun);
  }
  const value = median(samples);
  context.say(`${what}: ${value.toFixed(0)} ms`);
  return {
    group: 'desk',
    what,
    unit: 'ms',
    value,
    spread: spread(samples),
    ...(limitMs === null ? {} : { mark: atMost(value, limitMs, 'ms') }),
  };
}

async function desk(context: BenchContext): Promise<Figure[]> {
  const figures = [await command(context, ['--version'], 'fn --version, p50', 200)];
  const { platform } = context;
  await platform.deploy('back', says('one'));
  await platform.deploy('back', says('two'));
  const samples: number[] = [];
  for (let round = 0; round < rounds(context, 10); round++) {
    // To and fro: the one before the current is the other one, each time.
    const to = round % 2 === 0 ? '1' : '2';
    const begun = performance.now();
    await platform.fnOk(['rollback', 'back', to]);
    samples.push(performance.now() - begun);
  }
  const value = median(samples);
  context.say(`fn rollback: ${value.toFixed(0)} ms`);
  figures.push({
    group: 'desk',
    what: 'fn rollback, p50',
    unit: 'ms',
    value,
    spread: spread(samples),
    note: 'the whole command; no build, no upload',
  });
  return [...figures, ...(await reload(context))];
}

export const atTheDesk: Measurement = { group: 'desk', run: desk };
