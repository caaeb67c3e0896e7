/** What `fn down` could not remove: a network that Docker does not let go of (see removeNetwork() of the Docker driver). */
import { existsSync } from 'node:fs';
import { askEngine, findEngine } from '../engine.ts';

/** Name of the Docker network of a home that is still there, or null. Never throws: it is looked for a note, and fn is down. */
export async function heldNetwork(homeId: string, env: NodeJS.ProcessEnv): Promise<string | null> {
  // What `fn host-setup` made stays, for the next start.
  if (process.getuid?.() !== 0 && existsSync(`/run/fn/${homeId}/host-setup.json`)) return null;
  const engine = await findEngine(env);
  if (engine.kind !== 'ready') return null;
  const filters = encodeURIComponent(JSON.stringify({ label: [`fn.home=${homeId}`] }));
  // An engine that answers no more: whether there is anything to say is not known.
  const networks = await askEngine(engine.target, `/networks?filters=${filters}`).catch(() => null);
  const first: unknown = Array.isArray(networks) ? networks[0] : undefined;
  const name: unknown = typeof first === 'object' && first !== null ? Reflect.get(first, 'Name') : undefined;
  return typeof name === 'string' ? name : null;
}
