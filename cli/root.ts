/** Where fn itself is: the folder of the clone, whether the CLI runs from its sources or from dist/. */
import { dirname, join } from 'node:path';

/** Both `cli/root.ts` and every bundle in `dist/` are one folder below the root. */
export const root = dirname(import.meta.dirname);

/** Whether this is a bundle, made by cli/build.ts. */
export const bundled = !import.meta.filename.endsWith('.ts');

/** The programs that fn starts, and the file that each is made of. */
export const PROGRAMS = {
  cli: 'cli/main.ts',
  supervisor: 'cli/supervisor/main.ts',
  gateway: 'gateway/main.ts',
  controller: 'controller/main.ts',
  // Started by the controller.
  dispatcher: 'controller/dispatcher-main.ts',
  'host-setup': 'controller/host-setup-main.ts',
  // Loaded by gateway and controller where telemetry is configured; no program of its own.
  telemetry: 'controller/kit/telemetry-sdk.ts',
  'build-images': 'runtime-images/build.ts',
  images: 'runtime-images/images.ts',
} as const;

export type Program = keyof typeof PROGRAMS;

/** File to run a program with: bundles start bundles, sources start sources. */
export function programFile(program: Program): string {
  return bundled ? join(root, 'dist', `${program}.mjs`) : join(root, PROGRAMS[program]);
}
