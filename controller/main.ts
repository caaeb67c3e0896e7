/**
 * The controller: sole reader of process.env. It opens the store, waits until it leads where there are others
 * (FN_STANDBY=1 on one host, a Lease in a cluster), and then is what lead.ts makes of it. With `--cleanup` it ends every
 * instance of the home, removes what the driver made, and exits.
 */
import { FnError } from '#contract/errors.ts';
import { systemClock } from '#kit/clock.ts';
import { serveHealth } from '#kit/health-listener.ts';
import { createLog, type Log } from '#kit/log.ts';
import { type HomePaths, homePaths } from '#kit/paths.ts';
import { SettingsWrong } from '#kit/settings-wrong.ts';
import { parseStoreUrl, type StoreAddress, storeUrlToShow } from '#kit/store-url.ts';
import { type ControllerConfig, hostAndPort, readConfig } from './config.ts';
import { DriverUnavailable } from './driver/types.ts';
import { endFormerLeader, isDead, newCandidate } from './former-leader.ts';
import { Health } from './health.ts';
import type { Cluster, Shared } from './lead.ts';
import type { Lease } from './leadership.ts';
import { requireKey } from './secrets/key.ts';
import type { BundleStore, Store } from './store/types.ts';
import { openPatiently, takeTurn } from './turn.ts';

/** Whoever waits here is ended with the process. */
const NEVER = new AbortController().signal;

interface Stores {
  store: Store;
  /** Whether it can be reached now. */
  reachable: () => boolean;
  /** Once this process leads: one at a time may have the folder open. */
  openBundles: () => Promise<BundleStore>;
  /** What else is kept there, where controllers share no disk; null: it is in the home. */
  openShared: () => Promise<Shared | null>;
}

interface StoreSurroundings {
  config: ControllerConfig;
  address: StoreAddress;
  paths: HomePaths;
  log: Log;
  /** Hears that another controller has taken over: this one's write was refused. */
  onReplaced: () => void;
}

/** Only the store that is used is loaded. Throws FnError store-unavailable, which says what to do. */
async function openStores({ config, address, paths, log, onReplaced }: StoreSurroundings): Promise<Stores> {
  const openFolder = async () => (await import('./store/bundles.ts')).openBundleStore({ folder: paths.bundles });
  if (address.kind === 'sqlite') {
    const { openSqliteStore } = await import('./store/sqlite/store.ts');
    const store = openSqliteStore({ path: paths.database, log, onReplaced });
    return { store, reachable: () => true, openBundles: openFolder, openShared: async () => null };
  }
  const { openRedis } = await import('./store/redis/connection.ts');
  const { openRedisStore } = await import('./store/redis/store.ts');
  const openTimeoutMs = config.FN_STORE_WAIT_SECONDS * 1_000;
  const connection = await openRedis({ address, log, clientName: `fn-controller-${paths.homeId}`, openTimeoutMs });
  const store = await openRedisStore({ connection, log, onReplaced });
  const { term } = store;
  const openBundles = async () => {
    const { openRedisBundleStore } = await import('./store/redis/bundles.ts');
    return openRedisBundleStore({ term, cache: await openFolder() });
  };
  const openShared = async () => {
    // Instances that run on this host are this host's matter.
    if (config.FN_DRIVER !== 'kubernetes') return null;
    const [{ RedisRecords }, { RedisLogs }] = await Promise.all([import('./store/redis/records.ts'), import('./store/redis/logs.ts')]);
    const maxBytes = config.FN_LOGS_IN_STORE_MIB * 1024 * 1024;
    return { records: new RedisRecords({ term, clock: systemClock, log }), logFiles: new RedisLogs({ term, maxBytes }) };
  };
  return { store, reachable: () => connection.ready, openBundles, openShared };
}

/** Whatever is open is closed by that, and instances, which are nobody's children, go on: the one that leads now has them. */
function endReplaced(log: Log, why: string): void {
  log.error({ why }, 'this controller leads no more: ending, without touching what runs');
  process.exit(1);
}

/** Only where it is used is the connection loaded. Throws Error where there is nothing to reach a cluster by. */
async function openCluster(config: ControllerConfig, log: Log): Promise<Cluster | null> {
  // Functions can be declared in a cluster that their instances are not in.
  if (config.FN_DRIVER !== 'kubernetes' && config.FN_KUBERNETES.declared.length === 0) return null;
  const { createKubeApi } = await import('./kube/api.ts');
  const settings = config.FN_KUBERNETES;
  return { api: await createKubeApi({ kubeconfig: settings.kubeconfig, log }), settings };
}

/** Who says which of several controllers leads, and how this one takes part. */
async function leadershipOf(cluster: Cluster | null, store: Store) {
  const lease = cluster?.settings.lease ?? null;
  if (cluster === null || lease === null) return { leadership: store, holdOver: null, candidate: newCandidate(), isDead };
  const { KubeLease, isApiServerAway } = await import('./kube/lease.ts');
  const { self } = cluster.settings;
  const pod = self === null ? '' : `${self.pod}_`;
  const candidate = pod + newCandidate();
  return {
    leadership: new KubeLease({ api: cluster.api, ...lease, clock: systemClock }),
    // Each look is two requests to the API server, not one to the store.
    campaignMs: 1_000,
    holdOver: { isAway: isApiServerAway, holdsTerm: () => store.holdsTerm() },
    candidate,
    // In a pod one controller runs at a time: whoever else had its name has ended. Of other pods nobody here knows.
    isDead: (other: string) => (self === null ? isDead(other) : other !== candidate && other.startsWith(pod)),
  };
}

/** SIGTERM and SIGINT until it leads: as process 1 of a container it would not end by them. */
function endWhenTold(end: () => Promise<void>): { release: () => void } {
  const told = (): void => void end().finally(() => process.exit(0));
  process.once('SIGTERM', told);
  process.once('SIGINT', told);
  return {
    release: () => {
      process.off('SIGTERM', told);
      process.off('SIGINT', told);
    },
  };
}

async function main(): Promise<void> {
  const { env } = process;
  const config = readConfig(env);
  const log = createLog('controller', config.FN_LOG_LEVEL);
  const paths = homePaths(config.FN_HOME);
  const cluster = await openCluster(config, log);
  if (process.argv.includes('--cleanup')) {
    await (await import('./lead.ts')).cleanUp({ config, paths, cluster, log });
    return;
  }
  process.on('unhandledRejection', (error) => {
    log.error(
      { error: error instanceof Error ? error.stack : String(error) },
      'a promise was rejected and nobody looked; ending, the supervisor starts anew',
    );
    process.exit(1);
  });
  const health = new Health();
  if (config.FN_HEALTH_LISTEN !== undefined) serveHealth(hostAndPort(config.FN_HEALTH_LISTEN), health.checks, log);
  await run({ env, config, log, paths, cluster, health });
}

interface Surroundings {
  env: NodeJS.ProcessEnv;
  config: ControllerConfig;
  log: Log;
  paths: HomePaths;
  cluster: Cluster | null;
  health: Health;
}

/** From the store to leading. */
async function run({ env, config, log, paths, cluster, health }: Surroundings): Promise<void> {
  const inCluster = cluster !== null && cluster.settings.lease !== null;
  const standby = inCluster || config.FN_STANDBY === '1';
  const address = parseStoreUrl(config.FN_STORE);
  // A controller that is alone goes on serving: what runs needs no write.
  const onReplaced = standby ? () => endReplaced(log, 'a write was refused: another has raised the term') : () => {};
  let lease: Lease | null = null;
  let term: number | null = null;
  const resign = async () => lease?.resign();
  const told = inCluster ? endWhenTold(resign) : null;
  if (inCluster && config.FN_SECRET_KEY_FILE !== undefined) await requireKey(config.FN_SECRET_KEY_FILE);
  const open = () => openStores({ config, address, paths, log, onReplaced });
  // On one host the supervisor starts it again, and says what is wrong to who started the platform.
  const { store, reachable, openBundles, openShared } = await (inCluster ? openPatiently(open, log, NEVER) : open());
  health.storeIsOpen(reachable);
  // Read while it waits for its turn: on a busy machine that takes a second or two, in which nobody would lead.
  const leading = import('./lead.ts');
  leading.catch(() => {}); // Told where it is waited for.
  if (standby) {
    const onLost = (why: string) => endReplaced(log, why);
    const turn = await takeTurn({ ...(await leadershipOf(cluster, store)), store, clock: systemClock, log, onLost }, NEVER);
    ({ lease, term } = turn);
    const { former } = turn;
    if (former !== null && (await endFormerLeader(former))) log.warn({ former }, 'the controller that led before was frozen: ended');
  }
  const { lead } = await leading;
  const bundles = await openBundles();
  const shared = await openShared();
  const leads = () => lease === null || lease.held;
  const parts = { env, config, paths, cluster, log, store, bundles, shared, storeAddress: storeUrlToShow(address), term, leads, resign };
  await lead(parts).catch(async (error: unknown) => {
    // Another may be able to do what this one is not.
    await resign();
    throw error;
  });
  health.serves();
  told?.release();
}

main().catch((error: unknown) => {
  const msg = error instanceof Error ? error.message : String(error);
  // What says by itself what to do needs no stack.
  const told = error instanceof FnError || error instanceof SettingsWrong || error instanceof DriverUnavailable;
  const stack = error instanceof Error && !told ? error.stack : undefined;
  process.stderr.write(`${JSON.stringify({ level: 'error', process: 'controller', time: new Date().toISOString(), msg, stack })}\n`);
  process.exit(1);
});
