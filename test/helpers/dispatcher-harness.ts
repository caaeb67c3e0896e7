/** A dispatcher in the test's own process, on a store of its own, with gateways that the test plays. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AsyncSettings } from '#contract/events.ts';
import { systemClock } from '#kit/clock.ts';
import { silentLog } from '#kit/log.ts';
import { Dispatcher } from '../../controller/dispatcher/dispatcher.ts';
import type { PublisherAdapters } from '../../controller/dispatcher/publishers.ts';
import type { FunctionEvents, TriggerHost, Triggers } from '../../controller/dispatcher/types.ts';
import type { EventStore } from '../../controller/store/events.ts';
import { openSqliteEventStore } from '../../controller/store/sqlite/events.ts';
import { FakeGateway } from './dispatcher-gateway.ts';

export type AsyncInput = Partial<AsyncSettings>;

/** What the controller says of a function. Retries are quick. */
export function functionEvents(name: string, async: AsyncInput = {}, more: Partial<FunctionEvents> = {}): FunctionEvents {
  const settings = AsyncSettings.parse({ retryBaseSeconds: 0.01, retryMaxSeconds: 0.02, ...async });
  return {
    namespace: 'default',
    name,
    async: settings,
    triggers: [],
    maxSlots: 100,
    instanceSlots: 10,
    timeoutMs: 5_000,
    networks: null,
    ...more,
  };
}

const noBroker = () => Promise.reject(new Error('no broker in this test'));

/** Where nothing is said of brokers, there are none. */
export const noPublishers: PublisherAdapters = {
  'redis-stream': noBroker,
  'redis-list': noBroker,
  rabbitmq: noBroker,
  nats: noBroker,
  mqtt: noBroker,
  kafka: noBroker,
};

/** Triggers that do nothing but keep their host, for tests of what the host does. */
export class NoTriggers implements Triggers {
  host: TriggerHost | null = null;
  active = false;
  apply(_set: readonly FunctionEvents[]): void {}
  secretsChanged(): void {}
  async status() {
    return {};
  }
  async webhook() {
    return { status: 404, headers: [], body: Buffer.alloc(0) };
  }
  async close(): Promise<void> {}
}

export interface DispatcherOptions {
  functions?: FunctionEvents[];
  secrets?: Record<string, string>;
  publishers?: PublisherAdapters;
  /** Folder of its socket, within the test's. */
  path?: string;
  owner?: string;
  retired?: string[];
  /** Wraps the store, to see or break what is asked of it. */
  wrap?: (store: EventStore) => EventStore;
}

export class DispatcherHarness {
  readonly folder = mkdtempSync(join(tmpdir(), 'fn-dispatcher-'));
  readonly #dispatchers: Dispatcher[] = [];
  readonly #gateways: FakeGateway[] = [];
  #count = 0;

  /** The events' file, as another process would open it. */
  openStore(): EventStore {
    return openSqliteEventStore({ path: join(this.folder, 'events.db'), log: silentLog });
  }

  async start(options: DispatcherOptions = {}) {
    const { functions = [functionEvents('hello')], secrets = {}, retired = [], wrap = (store) => store } = options;
    const number = (this.#count += 1);
    const path = join(this.folder, options.path ?? `d${number}`, 's');
    const triggers = new NoTriggers();
    const dispatcher = new Dispatcher({
      store: wrap(this.openStore()),
      path,
      gid: null,
      createTriggers: (host) => {
        triggers.host = host;
        return triggers;
      },
      publishers: options.publishers ?? noPublishers,
      clock: systemClock,
      log: silentLog,
    });
    this.#dispatchers.push(dispatcher);
    const started = dispatcher.start({
      type: 'config',
      installation: 'test',
      owner: options.owner ?? `d-${number}`,
      retired,
      functions,
      secrets,
    });
    return { dispatcher, path, triggers, started };
  }

  /** A dispatcher that is up, and a gateway connected to it. */
  async ready(play?: FakeGateway['play'], options: DispatcherOptions = {}) {
    const { started, ...running } = await this.start(options);
    await started;
    return { ...running, gateway: await this.gateway(running.path, play) };
  }

  async gateway(path: string, play?: FakeGateway['play']): Promise<FakeGateway> {
    const gateway = await FakeGateway.connect(path, play);
    this.#gateways.push(gateway);
    return gateway;
  }

  async close(): Promise<void> {
    for (const gateway of this.#gateways) gateway.close();
    await Promise.all(this.#dispatchers.map((dispatcher) => dispatcher.close(0)));
    rmSync(this.folder, { recursive: true, force: true });
  }
}
