/**
 * Builds the runtime images that are missing. Run by `fn runtimes build` and `fn up`, or by hand:
 *
 *   node runtime-images/build.ts [--runtime NAME]… [--all] [--force] [--base IMAGE] [--locked]
 *                                [--update-lock] [--rootfs FILE] [--tags] [--json]
 *
 * stdout: the images' tags, or with --json `{"node":"fn/node:TAG"}`; stderr: what is going on. With
 * --tags nothing is built beyond what is named, and the answer also holds the tags that the other
 * runtimes' images have, or would have: `{"built":{…},"tags":{…}}`.
 * Exit codes: 0, 1 failed, 2 wrong arguments.
 */
import { parseArgs } from 'node:util';
import { buildImageOf, type BuildOptions } from './builder/build-image.ts';
import { imageInputs, imageTag } from './builder/inputs.ts';
import { runtimeImagesDir } from './builder/root.ts';
import { DEFAULT_RUNTIME, RUNTIMES } from './builder/runtimes.ts';

const say = (line: string): void => void process.stderr.write(`${line}\n`);

/** Tags of all runtimes' images as their inputs are now, whether they are there or not. */
function allTags(root: string): Record<string, string> {
  const tags: Record<string, string> = {};
  for (const [name, definition] of Object.entries(RUNTIMES)) tags[name] = imageTag(imageInputs(root, definition, null));
  return tags;
}

async function main(): Promise<number> {
  let values;
  try {
    ({ values } = parseArgs({
      options: {
        runtime: { type: 'string', multiple: true },
        all: { type: 'boolean', default: false },
        force: { type: 'boolean', default: false },
        base: { type: 'string' },
        locked: { type: 'boolean', default: false },
        'update-lock': { type: 'boolean', default: false },
        rootfs: { type: 'string' },
        tags: { type: 'boolean', default: false },
        json: { type: 'boolean', default: false },
      },
    }));
  } catch (error) {
    say(`error: ${error instanceof Error ? error.message : String(error)}`);
    return 2;
  }
  const names = values.runtime ?? (values.all ? Object.keys(RUNTIMES) : [DEFAULT_RUNTIME]);
  const unknown = names.find((name) => !Object.hasOwn(RUNTIMES, name));
  if (unknown !== undefined) {
    say(`error: no runtime is called ${unknown}; there is: ${Object.keys(RUNTIMES).join(', ')}`);
    return 2;
  }
  const root = runtimeImagesDir(import.meta.dirname, process.env);
  const options: BuildOptions = {
    root,
    say,
    force: values.force,
    base: values.base ?? null,
    locked: values.locked,
    updateLock: values['update-lock'],
    rootfs: values.rootfs ?? null,
  };
  const built: Record<string, string> = {};
  for (const name of new Set(names)) built[name] = await buildImageOf(RUNTIMES[name]!, options);
  const lines = Object.values(built).map((tag) => `${tag}\n`);
  if (values.tags) process.stdout.write(`${JSON.stringify({ built, tags: { ...allTags(root), ...built } })}\n`);
  else process.stdout.write(values.json ? `${JSON.stringify(built)}\n` : lines.join(''));
  return 0;
}

try {
  process.exitCode = await main();
} catch (error) {
  say(`error: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}
