/**
 * Builds the runtime images that are missing. Run by `fn runtimes build` and `fn up`, or by hand:
 *
 *   node runtime-images/build.ts [--runtime node] [--force] [--base IMAGE] [--locked] [--update-lock]
 *                                [--rootfs FILE] [--json]
 *
 * stdout: the image's tag, or with --json `{"node":"fn/node:TAG"}`; stderr: what is going on.
 * Exit codes: 0, 1 failed, 2 wrong arguments.
 */
import { copyFileSync, existsSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { inspectImage } from './builder/engine.ts';
import { nodeImageInputs, type ImageInputs } from './builder/inputs.ts';

interface Options {
  force: boolean;
  base: string | null;
  locked: boolean;
  updateLock: boolean;
  rootfs: string | null;
}

const say = (line: string): void => void process.stderr.write(`${line}\n`);

/** The folder of the runtimes' sources: said by the environment where this is bundled, else this file's own. */
function runtimeImagesDir(): string {
  const candidates = [process.env.FN_RUNTIME_IMAGES_DIR, import.meta.dirname, join(import.meta.dirname, '..', 'runtime-images')];
  for (const folder of candidates) if (folder && existsSync(join(folder, 'node', 'shim.mjs'))) return folder;
  throw new Error('the folder runtime-images is not found: set FN_RUNTIME_IMAGES_DIR to it');
}

/** Returns the tag. What is slow is imported only where something has to be built. */
async function buildNode(options: Options): Promise<string> {
  const root = runtimeImagesDir();
  let inputs = nodeImageInputs(root, options.base);
  const tagOf = (of: ImageInputs) => `fn/node:${of.digest.slice(0, 12)}`;
  if (!options.force && !options.updateLock && options.rootfs === null) {
    const image = await inspectImage(tagOf(inputs));
    const usable =
      image && image.labels['fn.inputs'] === `sha256:${inputs.digest}` && !(options.locked && image.labels['fn.packages'] === 'drifted');
    if (usable) return tagOf(inputs);
  }
  const started = performance.now();
  if (options.base !== null) {
    const { buildNodeImageOn } = await import('./builder/image.ts');
    say(`node: building upon ${options.base}`);
    await buildNodeImageOn(inputs, options.base, tagOf(inputs));
  } else {
    const { baseLayer, defaultCacheDir } = await import('./builder/base.ts');
    const { loadNodeImage } = await import('./builder/image.ts');
    const cacheDir = defaultCacheDir();
    say('node: building the runtime image (its root file system, Node, the shim)');
    const base = await baseLayer({
      ...options,
      lockPath: inputs.lockPath,
      inputsDigest: () => nodeImageInputs(root, null).baseDigest,
      cacheDir,
      say,
    });
    if (base.drifted) {
      say(`warning: Debian has other packages than packages.lock names: ${base.drift.join('; ')}`);
      say('warning: the image is built with what there is; --update-lock writes it down, --locked fails instead');
    }
    if (options.rootfs !== null) copyFileSync(base.path, options.rootfs);
    if (options.updateLock) inputs = nodeImageInputs(root, null);
    await loadNodeImage(inputs, base, tagOf(inputs), cacheDir);
  }
  const image = await inspectImage(tagOf(inputs));
  if (!image) throw new Error(`the engine took ${tagOf(inputs)} but does not have it`);
  say(
    `node: ${tagOf(inputs)} (Node ${inputs.node.version}, ${image.id.slice(0, 19)}) built in ${((performance.now() - started) / 1_000).toFixed(1)} s`,
  );
  return tagOf(inputs);
}

const RUNTIMES: Record<string, (options: Options) => Promise<string>> = { node: buildNode };

async function main(): Promise<number> {
  let values;
  try {
    ({ values } = parseArgs({
      options: {
        runtime: { type: 'string', multiple: true, default: Object.keys(RUNTIMES) },
        force: { type: 'boolean', default: false },
        base: { type: 'string' },
        locked: { type: 'boolean', default: false },
        'update-lock': { type: 'boolean', default: false },
        rootfs: { type: 'string' },
        json: { type: 'boolean', default: false },
      },
    }));
  } catch (error) {
    say(error instanceof Error ? error.message : String(error));
    return 2;
  }
  const unknown = values.runtime.find((name) => !Object.hasOwn(RUNTIMES, name));
  if (unknown !== undefined) {
    say(`no runtime is called ${unknown}; there is: ${Object.keys(RUNTIMES).join(', ')}`);
    return 2;
  }
  const options: Options = {
    force: values.force,
    base: values.base ?? null,
    locked: values.locked,
    updateLock: values['update-lock'],
    rootfs: values.rootfs ?? null,
  };
  const tags: Record<string, string> = {};
  for (const name of values.runtime) tags[name] = await RUNTIMES[name]!(options);
  process.stdout.write(
    values.json
      ? `${JSON.stringify(tags)}\n`
      : Object.values(tags)
          .map((tag) => `${tag}\n`)
          .join(''),
  );
  return 0;
}

try {
  process.exitCode = await main();
} catch (error) {
  say(`error: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}
