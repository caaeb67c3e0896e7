/** The runtimes that there are. */
import { python } from '../python/runtime.ts';
import { node } from '../node/runtime.ts';
import type { RuntimeDefinition } from './runtime.ts';

/** The one that is built where nothing else is said. */
export const DEFAULT_RUNTIME = 'node';

export const RUNTIMES: Readonly<Record<string, RuntimeDefinition>> = { node, python };
