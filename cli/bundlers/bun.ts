/** The bundler of the runtime `bun`: as node's, and Bun's own modules stay what they are. */
import type { Plugin } from 'esbuild';
import { bundleJavaScript, type Flavour } from './javascript.ts';
import type { Bundle, BundleRequest } from './types.ts';

const bunModules: Plugin = {
  name: 'bun-modules',
  setup(build) {
    build.onResolve({ filter: /^bun(?::.*)?$/ }, ({ path }) => ({ path, external: true }));
  },
};

const BUN: Flavour = { target: 'esnext', conditions: ['bun'], plugins: () => [bunModules] };

export const bundleBun = (request: BundleRequest): Promise<Bundle> => bundleJavaScript(request, BUN);
