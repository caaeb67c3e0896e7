/**
 * Sandboxes that functions may ask for (`sandbox:`), as OCI runtimes of the engine. An allow-list: a
 * runtime that the engine has for something else (a GPU's, a weaker one) is nobody's to choose.
 */
import { DriverUnavailable } from '../types.ts';
import type { EngineInfo } from './engine.ts';

/** Name that functions use → name of the runtime in the engine's daemon.json. */
const OCI_RUNTIMES: Readonly<Record<string, string>> = { gvisor: 'runsc' };

/** Without it a socket that the instance makes is seen by nobody outside of its sandbox. */
const MAKES_SOCKETS = /^--?host-uds=(?:create|all)$/;

/** What this engine offers, and what keeps the rest from being offered, a sentence each. */
export function sandboxesOf({ ociRuntimes }: Pick<EngineInfo, 'ociRuntimes'>): { names: string[]; notes: string[] } {
  const names: string[] = [];
  const notes: string[] = [];
  for (const [name, runtime] of Object.entries(OCI_RUNTIMES)) {
    const args = ociRuntimes.get(runtime);
    if (args === undefined) continue;
    if (args.some((arg) => MAKES_SOCKETS.test(arg))) names.push(name);
    else
      notes.push(
        `The sandbox ${name} is not offered, as the engine's runtime ${runtime} has no --host-uds=create: add it to its runtimeArgs in /etc/docker/daemon.json, reload the engine (kill -HUP) and start fn again.`,
      );
  }
  return { names, notes };
}

/** The engine's runtime behind a sandbox. Throws DriverUnavailable for a name that is none. */
export function ociRuntimeOf(sandbox: string): string {
  const runtime = Object.hasOwn(OCI_RUNTIMES, sandbox) ? OCI_RUNTIMES[sandbox] : undefined;
  if (runtime === undefined)
    throw new DriverUnavailable(`There is no sandbox ${sandbox} with Docker; there is: ${Object.keys(OCI_RUNTIMES).join(', ')}.`);
  return runtime;
}
