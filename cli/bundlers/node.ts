/** The bundler of the runtime `node`. */
import type { Source } from '../source.ts';
import { bundleJavaScript, type Flavour } from './javascript.ts';
import type { Bundle, BundleRequest } from './types.ts';

export { BUNDLE_ENTRY } from './javascript.ts';

const NODE: Flavour = { target: 'node24', conditions: [], plugins: () => [] };

export const bundleNode = (request: BundleRequest): Promise<Bundle> => bundleJavaScript(request, NODE);

/** Bundles a function without assets. Throws CliError with esbuild's own messages, place and lines. */
export const bundleFunction = (source: Source, cwd: string): Promise<Bundle> => bundleJavaScript({ source, cwd }, NODE);
