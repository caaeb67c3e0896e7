/** Settings of the kubernetes driver where gateway and controller run on this host. */
import type { HomePaths } from '#kit/paths.ts';
import { usageError } from '../errors.ts';

/** FN_KUBERNETES as the controller gets it: homes tell their pods apart, unless it was said what they are called. Throws CliError. */
export function kubernetesSettings(text: string | undefined, { homeId }: HomePaths): string {
  let given: unknown;
  try {
    given = text === undefined || text === '' ? {} : JSON.parse(text);
  } catch (error) {
    throw usageError(`FN_KUBERNETES is no JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
  if (typeof given !== 'object' || given === null || Array.isArray(given)) throw usageError('FN_KUBERNETES must be a JSON object');
  return JSON.stringify({ installation: `fn-${homeId}`, ...given });
}
