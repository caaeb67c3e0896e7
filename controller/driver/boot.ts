/** Flags that a runtime is booted with for a memory class, in whatever it runs. */
import { heapLimitMib } from '#contract/function.ts';

/** V8's heap limit is fixed when the process boots, so it goes by the class. */
const FLAGS: Readonly<Record<string, (memoryClassMib: number) => string[]>> = {
  node: (memoryClassMib) => [`--max-old-space-size=${heapLimitMib(memoryClassMib)}`],
};

/** None for a runtime that needs none: the kernel's limit holds it. */
export function bootFlags(runtime: string, memoryClassMib: number): string[] {
  return Object.hasOwn(FLAGS, runtime) ? FLAGS[runtime]!(memoryClassMib) : [];
}
