/** supervisor.json: what runs under a home, and how others find it. */
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { z } from 'zod';
import type { HomePaths } from '#kit/paths.ts';
import { isAlive } from './process-identity.ts';

const Identity = z.object({ pid: z.number().int().positive(), startTime: z.string().nullable() });

export const SupervisorState = z.object({
  pid: z.number().int().positive(),
  startTime: z.string().nullable(),
  /** `starting` until everything answers. */
  phase: z.enum(['starting', 'ready', 'stopping']),
  version: z.string(),
  host: z.string(),
  port: z.number().int(),
  url: z.string(),
  driver: z.enum(['docker', 'process']),
  children: z.object({ gateway: Identity.optional(), controller: Identity.optional() }),
});
export type SupervisorState = z.infer<typeof SupervisorState>;

/** The state as it was last written, or null. What cannot be read as one is as good as none. */
export function readState(paths: HomePaths): SupervisorState | null {
  let text: string;
  try {
    text = readFileSync(paths.supervisorFile, 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null;
    throw error;
  }
  try {
    return SupervisorState.parse(JSON.parse(text));
  } catch {
    // Half of an old version's file: there is nothing in it that could be used.
    return null;
  }
}

/** Whoever reads sees the old or the new one, never half of it. */
export function writeState(paths: HomePaths, state: SupervisorState): void {
  const temporary = `${paths.supervisorFile}.${process.pid}`;
  writeFileSync(temporary, `${JSON.stringify(state, null, 2)}\n`, { mode: 0o600 });
  renameSync(temporary, paths.supervisorFile);
}

export function removeState(paths: HomePaths): void {
  rmSync(paths.supervisorFile, { force: true });
}

/** The state of a supervisor that lives, or null. */
export function runningState(paths: HomePaths): SupervisorState | null {
  const state = readState(paths);
  return state !== null && isAlive(state) ? state : null;
}
