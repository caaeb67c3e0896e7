/**
 * The dispatcher: composition root, the sole reader of process.env in this process. It is a child of the
 * controller, which tells it what functions are like; it ends with it.
 */
import { neverBack, systemClock } from '#kit/clock.ts';
import { tcpListen } from '#kit/link-endpoint.ts';
import { createLog, type Log } from '#kit/log.ts';
import { homePaths, type HomePaths } from '#kit/paths.ts';
import { type DispatcherSettings, readSettings } from './dispatcher/config.ts';
import { Control } from './dispatcher/control.ts';
import { Dispatcher } from './dispatcher/dispatcher.ts';
import type { PublisherAdapters } from './dispatcher/publishers.ts';
import { createTriggers, type SourceAdapters } from './dispatcher/triggers.ts';
import type { ControllerToDispatcher, DispatcherToController } from './dispatcher/types.ts';
import type { EventStore } from './store/events.ts';

/** Beyond the grace of what runs, ms: connections and the store are closed by then, or the process ends without. */
const CLOSE_DEADLINE_MS = 5_000;

/** Only the store that is used is loaded. */
async function openStore({ FN_STORE: address }: DispatcherSettings, paths: HomePaths, log: Log): Promise<EventStore> {
  if (address.kind === 'sqlite') {
    const { openSqliteEventStore } = await import('./store/sqlite/events.ts');
    return openSqliteEventStore({ path: paths.eventsDatabase, log });
  }
  const { openRedisEventStore } = await import('./store/redis/events.ts');
  return openRedisEventStore({ address, log });
}

/** Each is loaded, with its client library, when the first trigger of its type begins. */
const source: SourceAdapters = {
  'redis-stream': () => import('./triggers/redis-stream/source.ts'),
  'redis-list': () => import('./triggers/redis-list/source.ts'),
  rabbitmq: () => import('./triggers/rabbitmq/source.ts'),
  nats: () => import('./triggers/nats/source.ts'),
  mqtt: () => import('./triggers/mqtt/source.ts'),
  kafka: () => import('./triggers/kafka/source.ts'),
};

/** Likewise, when the first event is sent to a destination of its type. */
const publishers: PublisherAdapters = {
  'redis-stream': () => import('./triggers/redis-stream/publisher.ts'),
  'redis-list': () => import('./triggers/redis-list/publisher.ts'),
  rabbitmq: () => import('./triggers/rabbitmq/publisher.ts'),
  nats: () => import('./triggers/nats/publisher.ts'),
  mqtt: () => import('./triggers/mqtt/publisher.ts'),
  kafka: () => import('./triggers/kafka/publisher.ts'),
};

async function main(): Promise<void> {
  const settings = readSettings(process.env);
  const log = createLog('dispatcher', settings.FN_LOG_LEVEL);
  process.on('unhandledRejection', (error) => {
    log.error(
      { error: error instanceof Error ? error.stack : String(error) },
      'a promise was rejected and nobody looked; ending, the controller starts anew',
    );
    process.exit(1);
  });
  // What is said before the store is open is kept by the channel until somebody listens.
  const paths = homePaths(settings.FN_HOME);
  const store = await openStore(settings, paths, log);
  const clock = neverBack(systemClock);
  const dispatcher = new Dispatcher({
    store,
    path: paths.eventsSocket,
    gid: settings.FN_GATEWAY_GID ?? null,
    tcp: tcpListen({
      listen: settings.FN_EVENTS_LISTEN,
      tokenFile: settings.FN_LINK_TOKEN_FILE,
      tlsDir: settings.FN_LINK_TLS_DIR,
    }),
    createTriggers: (host) => createTriggers(host, { source }),
    publishers,
    clock,
    log,
  });
  const graceMs = settings.FN_DISPATCHER_GRACE_MS;
  let ending = false;
  const end = (why: string) => {
    if (ending) return;
    ending = true;
    log.info({ why }, 'the dispatcher ends');
    setTimeout(() => process.exit(1), graceMs + CLOSE_DEADLINE_MS).unref();
    void dispatcher.close(graceMs).then(() => process.exit(0));
  };
  const control = new Control({
    dispatcher,
    send: (message: DispatcherToController) => {
      // A controller that is gone is told of by 'disconnect'.
      if (process.connected) process.send?.(message, undefined, undefined, () => {});
    },
    onDrained: () => process.exit(0),
    clock,
    log,
  });
  process.on('message', (message: ControllerToDispatcher) => control.receive(message));
  process.on('disconnect', () => end('the controller is gone'));
  process.on('SIGTERM', () => end('SIGTERM'));
  process.on('SIGINT', () => end('SIGINT'));
  if (!process.connected) end('no controller started it');
}

main().catch((error: unknown) => {
  process.stderr.write(
    `${JSON.stringify({ level: 'error', process: 'dispatcher', time: new Date().toISOString(), msg: error instanceof Error ? error.message : String(error), stack: error instanceof Error ? error.stack : undefined })}\n`,
  );
  process.exit(1);
});
