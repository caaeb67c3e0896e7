/** The one bridge that instances with egress are on: no traffic between them, no IPv6, nothing published. */
import { sleep } from '#kit/clock.ts';
import { DriverUnavailable } from '../types.ts';
import { engineStatus, type Engine } from './engine.ts';
import { LABELS } from './container.ts';

/** How long a network may seem to be in use when all that was on it has been removed, and the pause between attempts, ms. */
const HELD_WAIT_MS = 5_000;
const HELD_RETRY_MS = 100;

/** Name of the Docker network and of the host's interface, at most 15 characters. */
export const networkName = (homeId: string): string => `fn-${homeId}`;

const OPTIONS = {
  'com.docker.network.bridge.enable_icc': 'false',
  'com.docker.network.bridge.enable_ip_masquerade': 'true',
} as const;

/** Makes the bridge where it is not there. Throws DriverUnavailable where Docker has no addresses left for it. */
export async function ensureNetwork(engine: Engine, homeId: string): Promise<void> {
  const name = networkName(homeId);
  if (await hasNetwork(engine, homeId)) return;
  try {
    await engine.createNetwork({
      Name: name,
      Driver: 'bridge',
      CheckDuplicate: true,
      EnableIPv6: false,
      Options: { ...OPTIONS, 'com.docker.network.bridge.name': name },
      Labels: { [LABELS.home]: homeId },
    });
  } catch (error) {
    // Another controller of this home, or host-setup, was faster.
    if (engineStatus(error) === 409 && (await hasNetwork(engine, homeId))) return;
    if (error instanceof Error && /address pool/.test(error.message)) {
      throw new DriverUnavailable(
        'Docker has no addresses left for one more network: remove unused ones (docker network prune), or give it more (default-address-pools in /etc/docker/daemon.json).',
        { cause: error },
      );
    }
    throw error;
  }
}

/** Whether the bridge is there and is what we would make. Throws where something else has its name. */
export async function hasNetwork(engine: Engine, homeId: string): Promise<boolean> {
  const network = await engine.network(networkName(homeId));
  if (network === null) return false;
  const options: Record<string, string> = network.Options ?? {};
  const ours = network.Labels?.[LABELS.home] === homeId && !network.EnableIPv6;
  if (!ours || Object.entries(OPTIONS).some(([key, value]) => options[key] !== value)) {
    throw new DriverUnavailable(
      `The Docker network ${networkName(homeId)} is not as fn makes it: remove it (docker network rm ${networkName(homeId)}).`,
    );
  }
  return true;
}

/**
 * Removes the bridge. An engine that is busy takes a container off it after it has said that it was removed: that is waited for.
 * `held`: it counts containers on the network though there is none, which only its own restart puts right (Docker, at least up to
 * 20.10, miscounts when several start and end at once: github.com/moby/moby/issues/42119). Throws where containers are on it.
 * Nothing there, or of another owner: nothing done.
 */
export async function removeNetwork(engine: Engine, homeId: string, waitMs = HELD_WAIT_MS): Promise<'removed' | 'held'> {
  const name = networkName(homeId);
  for (const start = performance.now(); ; await sleep(HELD_RETRY_MS)) {
    const network = await engine.network(name);
    if (network === null || network.Labels?.[LABELS.home] !== homeId) return 'removed';
    try {
      await engine.removeNetwork(name);
      return 'removed';
    } catch (error) {
      if (engineStatus(error) !== 403) throw error;
      if (performance.now() - start <= waitMs) continue;
      if (Object.keys(network.Containers ?? {}).length > 0) throw error;
      return 'held';
    }
  }
}

/** What to do about a network that is held. */
export const heldInWords = (homeId: string): string =>
  `Docker counts containers on the network ${networkName(homeId)}, though none is on it, and does not let go of it. It does no harm. When Docker has been restarted it can be removed: docker network rm ${networkName(homeId)}`;
