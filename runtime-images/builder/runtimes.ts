/** The runtimes that there are. */
import { binary } from '../binary/runtime.ts';
import { bun } from '../bun/runtime.ts';
import { deno } from '../deno/runtime.ts';
import { node } from '../node/runtime.ts';
import { python } from '../python/runtime.ts';
import type { RuntimeDefinition } from './runtime.ts';

/** The one that is built where nothing else is said. */
export const DEFAULT_RUNTIME = 'node';

export const RUNTIMES: Readonly<Record<string, RuntimeDefinition>> = { node, python, bun, deno, binary };
