import { expect, it } from 'vitest';
import { LABELS } from './container.ts';
import { RuntimeImages } from './runtimes.ts';

/** An engine with these images: the version of each, and the day it got its tag. */
function engineWith(images: Record<string, { version: string; day: number; packages?: string }>) {
  return {
    async image(tag: string) {
      const found = images[tag];
      if (found === undefined) return null;
      const Labels = { [LABELS.version]: found.version, 'fn.packages': found.packages ?? 'locked' };
      return { Config: { Labels }, Metadata: { LastTagTime: `2026-11-0${found.day}T00:00:00Z` } };
    },
    imageTags: async (label: string) => Object.keys(images).filter((tag) => tag.startsWith(`fn/${label.split('=')[1]}:`)),
  };
}

it('names the image of each runtime, and says of one that another version of fn made how to have it anew', async () => {
  const images = new RuntimeImages({ node: 'fn/node:new', python: 'fn/python:new', bun: 'fn/bun:new', deno: 'fn/deno:new' });
  const engine = engineWith({
    'fn/node:old': { version: '24.1', day: 9 },
    'fn/node:new': { version: '24.2', day: 1 },
    'fn/python:older': { version: '3.10', day: 1 },
    'fn/python:old': { version: '3.11', day: 2 },
    // Upon somebody's own base the tag is another one always.
    'fn/deno:based': { version: '2.1', day: 1, packages: 'base-image' },
  });
  expect(await images.list(engine)).toEqual([
    { name: 'node', version: '24.2', image: 'fn/node:new' },
    {
      name: 'python',
      version: '3.11',
      image: 'fn/python:old',
      note: expect.stringMatching(/python .*fn\/python:old.*fn runtimes build python/),
    },
    { name: 'deno', version: '2.1', image: 'fn/deno:based' },
  ]);
});
