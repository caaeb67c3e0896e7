/**
 * The controller: sole reader of process.env. It opens the store, waits until it leads where there are others
 * (FN_STANDBY=1), and then is what lead.ts makes of it. With `--cleanup` it ends every instance of the home,
 * removes what the driver made, and exits.
 */
import { FnError } from '#contract/errors.ts';
import { systemClock } from '#kit/clock.ts';
import { createLog, type Log } from '#kit/log.ts';
import { type HomePaths, homePaths } from '#kit/paths.ts';
import { parseStoreUrl, type StoreAddress, storeUrlToShow } from '#kit/store-url.ts';
import { readConfig } from './config.ts';
import { endFormerLeader, isDead, newCandidate } from './former-leader.ts';
import { Lease } from './leadership.ts';
import type { BundleStore, Store } from './store/types.ts';

interface Stores {
  store: Store;
  /** Once this process leads: one at a time may have the folder open. */
  openBundles: () => Promise<BundleStore>;
}

interface StoreSurroundings {
  address: StoreAddress;
  paths: HomePaths;
  log: Log;
  /** How long a store that is away is waited for. */
  waitMs: number;
  /** Hears that another controller has taken over: this one's write was refused. */
  onReplaced: () => void;
}

/** Only the store that is used is loaded. Throws FnError store-unavailable, which says what to do. */
async function openStores({ address, paths, log, waitMs, onReplaced }: StoreSurroundings): Promise<Stores> {
  const openFolder = async () => (await import('./store/bundles.ts')).openBundleStore({ folder: paths.bundles });
  if (address.kind === 'sqlite') {
    const { openSqliteStore } = await import('./store/sqlite/store.ts');
    return { store: openSqliteStore({ path: paths.database, log, onReplaced }), openBundles: openFolder };
  }
  const { openRedis } = await import('./store/redis/connection.ts');
  const { openRedisStore } = await import('./store/redis/store.ts');
  const connection = await openRedis({ address, log, clientName: `fn-controller-${paths.homeId}`, openTimeoutMs: waitMs });
  const store = await openRedisStore({ connection, log, onReplaced });
  const openBundles = async () => {
    const { openRedisBundleStore } = await import('./store/redis/bundles.ts');
    return openRedisBundleStore({ term: store.term, cache: await openFolder() });
  };
  return { store, openBundles };
}

/** Whatever is open is closed by that, and instances, which are nobody's children, go on: the one that leads now has them. */
function endReplaced(log: Log, why: string): void {
  log.error({ why }, 'this controller leads no more: ending, without touching what runs');
  process.exit(1);
}

async function main(): Promise<void> {
  const { env } = process;
  const config = readConfig(env);
  const log = createLog('controller', config.FN_LOG_LEVEL);
  const paths = homePaths(config.FN_HOME);
  if (process.argv.includes('--cleanup')) {
    await (await import('./lead.ts')).cleanUp(config, paths, log);
    return;
  }
  process.on('unhandledRejection', (error) => {
    log.error(
      { error: error instanceof Error ? error.stack : String(error) },
      'a promise was rejected and nobody looked; ending, the supervisor starts anew',
    );
    process.exit(1);
  });
  const standby = config.FN_STANDBY === '1';
  const address = parseStoreUrl(config.FN_STORE);
  // A controller that is alone goes on serving: what runs needs no write.
  const onReplaced = standby ? () => endReplaced(log, 'a write was refused: another has raised the term') : () => {};
  const { store, openBundles } = await openStores({ address, paths, log, waitMs: config.FN_STORE_WAIT_SECONDS * 1_000, onReplaced });
  const lease = standby ? await takeTurn(store, log) : null;
  const { lead } = await import('./lead.ts');
  const bundles = await openBundles();
  const resign = async () => lease?.resign();
  await lead({ env, config, paths, log, store, bundles, storeAddress: storeUrlToShow(address), resign });
}

/** Waits until this process leads, and fences who led before. From then on it ends itself when it leads no more. */
async function takeTurn(store: Store, log: Log): Promise<Lease> {
  const lease = new Lease({ leadership: store, candidate: newCandidate(), clock: systemClock, log, isDead });
  const former = await lease.win();
  lease.hold((why) => endReplaced(log, why));
  // Before anything is read: what is read now, nobody else changes any more.
  await store.raiseTerm();
  if (former !== null && (await endFormerLeader(former))) log.warn({ former }, 'the controller that led before was frozen: ended');
  return lease;
}

main().catch((error: unknown) => {
  const msg = error instanceof Error ? error.message : String(error);
  // What says by itself what to do needs no stack.
  const stack = error instanceof Error && !(error instanceof FnError) ? error.stack : undefined;
  process.stderr.write(`${JSON.stringify({ level: 'error', process: 'controller', time: new Date().toISOString(), msg, stack })}\n`);
  process.exit(1);
});
