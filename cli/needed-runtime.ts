/** The image of a runtime is built when it is needed for the first time, where the platform is on this machine. */
import type { ApiClient } from './client.ts';
import { CliError } from './errors.ts';
import { buildImages, named } from './supervisor/runtimes.ts';

export interface RuntimeSurroundings {
  client: Pick<ApiClient, 'isLocal'>;
  /** For the builder; without it nothing is built. */
  env?: NodeJS.ProcessEnv | undefined;
  say: (line: string) => void;
  doing?: ((what: string) => void) | undefined;
}

/** Builds under way: functions that are deployed beside each other wait for the same one. */
const building = new Map<string, Promise<unknown>>();

/** An image of one's own runs under the shim of `binary`. */
const imageOf = (runtime: string): string => (runtime === 'image' ? 'binary' : runtime);

/**
 * Tries; where the platform says that it lacks the runtime, builds it and tries once more. Throws what
 * the second try throws, or why it could not be built.
 */
export async function withRuntime<T>(runtime: string, surroundings: RuntimeSurroundings, attempt: () => Promise<T>): Promise<T> {
  try {
    return await attempt();
  } catch (error) {
    const { client, env, say, doing } = surroundings;
    if (!(error instanceof CliError) || error.code !== 'runtime-missing' || !client.isLocal || env === undefined) throw error;
    const name = imageOf(runtime);
    let build = building.get(name);
    if (!build) {
      say(`runtime ${name} is not built yet: building it, once`);
      doing?.(`building the runtime ${name}`);
      build = buildImages(named([name]), env, say).finally(() => building.delete(name));
      building.set(name, build);
    }
    await build;
    return attempt();
  }
}
