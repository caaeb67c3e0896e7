import { build } from 'esbuild';
import { expect, it } from 'vitest';
import { bundles } from './build.ts';
import { root } from './root.ts';

it('what every command line loads is the parser alone: no schema, no YAML, no bundler', async () => {
  const [cli] = bundles(root);
  const { metafile } = await build({ ...cli, write: false, metafile: true });
  const { outputs } = metafile;
  const eager = new Set<string>();
  const follow = (output: string): void => {
    if (eager.has(output)) return;
    eager.add(output);
    for (const { path, kind } of outputs[output]?.imports ?? []) if (kind === 'import-statement' && path in outputs) follow(path);
  };
  follow('dist/cli.mjs');
  const inputs = [...eager]
    .flatMap((output) => Object.entries(outputs[output]?.inputs ?? {}))
    .filter(([, { bytesInOutput }]) => bytesInOutput > 0);
  const packages = new Set(inputs.flatMap(([path]) => /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(path)?.[1] ?? []));
  // nanoid: two kilobytes beside the hash that names a home.
  expect([...packages].toSorted()).toEqual(['commander', 'nanoid']);
  const bytes = inputs.reduce((sum, [, { bytesInOutput }]) => sum + bytesInOutput, 0);
  expect(bytes).toBeLessThan(260_000);
}, 240_000);

it('a package of CommonJS that is loaded later is taken by its default: in a bundle it has no other names', async () => {
  const unnamed = new Set<string>();
  for (const options of bundles(root).filter(({ splitting }) => splitting === true)) {
    const { metafile } = await build({ ...options, write: false, metafile: true });
    for (const { entryPoint, exports } of Object.values(metafile.outputs))
      if (entryPoint?.startsWith('node_modules/') === true && exports.join() === 'default') unnamed.add(entryPoint);
  }
  // Both of its users take `{ default: Docker }`. What is not here may be imported by name.
  expect([...unnamed].toSorted()).toEqual(['node_modules/dockerode/lib/docker.js']);
}, 120_000);
