/** The controller's process: does what the process that makes the traffic tells it, so that each has CPU figures of its own. */
import { SimPlatform } from './platform.ts';
import type { Shape } from './shape.ts';

export interface StartJob {
  shape: Shape;
  lingerSeconds: number;
  createsPerSecond: number | null;
}

export type Command = 'begin' | 'end' | 'instances' | 'restart' | 'stop-deploys' | 'close';

const job = JSON.parse(process.argv[2] ?? 'null') as StartJob | null;
if (job === null || process.send === undefined) throw new Error('this is started by run.ts');
const tell = (value: unknown) => process.send?.(value);
const platform = await SimPlatform.start(
  job.shape,
  job.lingerSeconds,
  job.createsPerSecond === null ? {} : { createsPerSecond: job.createsPerSecond },
);
platform.deployOn();

async function run(command: Command): Promise<unknown> {
  switch (command) {
    case 'begin':
      return platform.begin();
    case 'end':
      return platform.end();
    case 'instances':
      return platform.instances();
    case 'restart':
      return platform.restart();
    case 'stop-deploys':
      return platform.stopDeploys();
    case 'close':
      return platform.close();
  }
}

process.on('message', (command: Command) => {
  run(command).then(
    (value) => {
      tell({ value: value ?? null });
      if (command === 'close') process.disconnect?.();
    },
    (error: unknown) => tell({ error: error instanceof Error ? (error.stack ?? error.message) : String(error) }),
  );
});
// Whoever made the traffic is gone: there is nobody to tell.
process.on('disconnect', () => process.exit());
tell({ value: platform.paths.linkSocket });
