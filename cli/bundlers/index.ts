/** Which bundler makes what of a runtime's sources; loaded when it is needed, since each has a large library of its own. */
import { usageError } from '../errors.ts';
import type { Bundle, Bundler, BundleRequest } from './types.ts';

const BUNDLERS: Readonly<Record<string, () => Promise<Bundler>>> = {
  node: async () => (await import('./node.ts')).bundleNode,
  python: async () => (await import('./python.ts')).bundlePython,
  bun: async () => (await import('./bun.ts')).bundleBun,
  deno: async () => (await import('./deno.ts')).bundleDeno,
  binary: async () => (await import('./binary.ts')).bundleBinary,
  image: async () => (await import('./image.ts')).bundleImage,
};

/** What can be bundled for. */
export const RUNTIMES: readonly string[] = Object.keys(BUNDLERS);

/** Bundles with the runtime's bundler. Throws usageError where this fn has none for it. */
export async function bundle(request: BundleRequest): Promise<Bundle> {
  const load = Object.hasOwn(BUNDLERS, request.runtime) ? BUNDLERS[request.runtime] : undefined;
  if (!load) throw usageError(`fn cannot bundle for the runtime ${request.runtime}`, `It can for: ${RUNTIMES.join(', ')}.`);
  return (await load())(request);
}
