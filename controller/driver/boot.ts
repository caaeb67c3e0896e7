/** Flags that a runtime is booted with for a memory class, in whatever it runs. */
import { heapLimitMib } from '#contract/function.ts';

/** Up to this class Bun is told to be sparing, MiB. */
const SMALL_CLASS_MIB = 512;

/** V8's heap limit is fixed when the process boots, so it goes by the class. */
const FLAGS: Readonly<Record<string, (memoryClassMib: number) => string[]>> = {
  node: (memoryClassMib) => [`--max-old-space-size=${heapLimitMib(memoryClassMib)}`],
  deno: (memoryClassMib) => [`--v8-flags=--max-old-space-size=${heapLimitMib(memoryClassMib)}`],
  // JavaScriptCore goes by the memory of the machine: in a small instance it is to collect garbage sooner.
  bun: (memoryClassMib) => (memoryClassMib <= SMALL_CLASS_MIB ? ['--smol'] : []),
};

/** None for a runtime that needs none: the kernel's limit holds it. */
export function bootFlags(runtime: string, memoryClassMib: number): string[] {
  return Object.hasOwn(FLAGS, runtime) ? FLAGS[runtime]!(memoryClassMib) : [];
}

/** Of images whose arguments go by the class: what comes before the flags of the class, and after them. */
const ARGUMENTS: Readonly<Record<string, readonly [before: readonly string[], after: readonly string[]]>> = {
  node: [[], ['/fn/shim.mjs']],
  bun: [['--no-install'], ['/fn/bun/shim.mjs']],
  deno: [['run', '--allow-all', '--deny-import', '--no-prompt', '--no-config', '--no-lock', '--cached-only'], ['/fn/deno/shim.mjs']],
};

/** What a runtime image's entry point is given in the place of the image's own arguments; null where those do for every class. */
export function imageArguments(runtime: string, memoryClassMib: number): string[] | null {
  const parts = Object.hasOwn(ARGUMENTS, runtime) ? ARGUMENTS[runtime] : undefined;
  return parts === undefined ? null : [...parts[0], ...bootFlags(runtime, memoryClassMib), ...parts[1]];
}
