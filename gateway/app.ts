/** The gateway, put together: public listener, routes, leases and the link to the controller. */
import { once } from 'node:events';
import { type AddressInfo, Server as NetServer } from 'node:net';
import { type Clock, sleep, systemClock } from '#kit/clock.ts';
import { type HealthListener, serveHealth } from '#kit/health-listener.ts';
import { newSecret, requestIds } from '#kit/ids.ts';
import type { Log } from '#kit/log.ts';
import { ByteBudget } from './byte-budget.ts';
import type { GatewayConfig, ListenAt } from './config.ts';
import type { ForwardContext } from './context.ts';
import { Deliveries } from './deliveries.ts';
import { EventsLink } from './events-link.ts';
import { Gatekeeper } from './gatekeeper.ts';
import { CallJournal, type CallObserver } from './journal.ts';
import { LeaseTable } from './leases.ts';
import { LinkClient, type LinkEvents } from './link.ts';
import { createPlatformApp, platformListener } from './platform.ts';
import { RouteTable } from './routes.ts';
import { createPublicServer, type PublicListener, type PublicServer, type ServerOptions } from './server.ts';
import { Certificates } from './tls.ts';
import { CallTally } from './tally.ts';
import { createTracer, type Sampler, type Tracer } from './trace.ts';
import { Upstream } from './upstream.ts';
import { DeadlineWheel } from './wheel.ts';

/** How late deadlines may be noticed. */
const WHEEL_TICK_MS = 50;
/** Connections that wait in the kernel while this process is busy, or another takes over. */
const LISTEN_BACKLOG = 4_096;
/**
 * At the end, idle connections are kept for so long: a request may be on its way on them, and it is
 * better answered, with Connection: close, than reset.
 */
const IDLE_GRACE_MS = 1_000;
/** WebSockets and streams of events are told to end so long before the drain does: both sides need a moment for it. */
const STREAMS_END_MS = 2_500;
/** How often the end of the last request is looked for. */
const DRAIN_POLL_MS = 25;

export interface Gateway {
  /** Listens. Resolves with the address. */
  start(): Promise<AddressInfo | string | null>;
  /** Where TLS is listened for; null where it is not. */
  readonly tlsAddress: AddressInfo | string | null;
  /** Where probes are answered; null where they are not, or not yet. */
  readonly healthAddress: AddressInfo | null;
  /**
   * Says at once that it is about to end. After the drain delay accepts no more, lets what is in flight end within the
   * deadline, gives the leases back.
   */
  close(): Promise<void>;
  readonly state: GatewayNumbers;
}

/** What it has at the moment. `events`: whether the link to the dispatcher is up. */
export interface GatewayNumbers {
  connected: boolean;
  events: boolean;
  ready: boolean;
  leases: number;
  waiting: number;
  inFlight: number;
  delivering: number;
  deadlines: number;
}

/** How often a starting gateway looks whether its routes have come. */
const READY_POLL_MS = 5;

/** What else hears of requests, where it is configured: metrics and traces. */
export interface GatewayTelemetry {
  readonly sampler: Sampler;
  /** Whether starts that a request causes belong to its trace. */
  readonly traced: boolean;
  observers(tracer: Tracer): readonly CallObserver[];
}

export function createGateway(
  config: GatewayConfig,
  log: Log,
  clock: Clock = systemClock,
  telemetry: GatewayTelemetry | null = null,
): Gateway {
  const gatewayId = config.gatewayId ?? newSecret().slice(0, 16);
  const journal = new CallJournal({
    gateway: gatewayId,
    clock,
    limits: config.calls,
    tally: new CallTally(),
    send: (message) => link.send(message),
  });
  const tracer = createTracer(telemetry?.sampler);
  const routes = new RouteTable();
  const wheel = new DeadlineWheel(clock, { tickMs: WHEEL_TICK_MS });
  const leases = new LeaseTable<Upstream>({
    clock,
    limits: { maxWaiting: config.maxWaiting, maxWaitingPerFunction: config.maxWaitingPerFunction },
    connect: (instance, address) => new Upstream(address, clock, (reason) => leases.instances.unreachable(instance, reason)),
    send: (message) => link.send(message),
  });
  const gatekeeper = new Gatekeeper({ clock, log, trustedProxies: config.trustedProxies, jwksAllow: config.jwksAllow });
  const certificates = new Certificates(log);
  const boot = newSecret().slice(0, 16);
  const link = new LinkClient({
    target: config.link,
    gateway: gatewayId,
    boot,
    pid: process.pid,
    clock,
    log,
    events: linkEvents({ routes, leases, journal, gatekeeper, certificates, routed: (version) => link.send({ type: 'routed', version }) }),
  });
  const events = new EventsLink({
    target: config.events,
    gateway: gatewayId,
    boot,
    clock,
    wheel,
    log,
    want: () => void link.send({ type: 'events' }),
    onDeliver: (message) => deliveries.deliver(message),
    onAbandon: (seq) => deliveries.abandon(seq),
    onDown: () => deliveries.linkDown(),
  });
  const context: ForwardContext = {
    clock,
    wheel,
    routes,
    leases,
    gatekeeper,
    events,
    collecting: new ByteBudget(config.maxCollectingBytes),
    tracer,
    traced: telemetry?.traced ?? false,
    calls: observedBy([journal, ...(telemetry?.observers(tracer) ?? [])]),
    queueTimeoutMs: config.queueTimeoutMs,
    maxBodyBytes: config.maxBodyBytes,
    publicHost: new URL(config.publicUrl).host,
    draining: false,
  };
  const newRequestId = requestIds();
  const deliveries = new Deliveries({ context, newRequestId, tell: (result) => events.tell(result) });
  const platform = createPlatformApp({ ready: () => routes.ready, draining: () => context.draining, newRequestId }, log);
  const serverOptions: ServerOptions = {
    context,
    platform: platformListener(platform),
    newRequestId,
    trustedProxies: config.trustedProxies,
    maxConnections: config.maxConnections,
    keepAliveTimeoutMs: config.keepAliveTimeoutMs,
    headersTimeoutMs: config.headersTimeoutMs,
    log,
  };
  const listener = createPublicServer(serverOptions);
  const tlsListener = config.tlsListen === null ? null : createPublicServer({ ...serverOptions, certificates });
  const { server } = listener;
  const tlsServer = tlsListener?.server ?? null;
  let closing: Promise<void> | null = null;
  let health: HealthListener | null = null;
  return {
    async start() {
      const ready = () => routes.ready && (tlsServer === null || certificates.known);
      const checks = { '/livez': () => null, '/readyz': () => notReady(ready(), context.draining) };
      if (config.healthListen !== null) health = serveHealth(config.healthListen, checks, log);
      link.start();
      events.start();
      // What waits in the socket that a predecessor left has an answer to wait for, not a 503 [4].
      if ('fd' in config.listen) await untilReady(ready, clock, config.routesWaitMs);
      if (tlsServer !== null) await listen(tlsServer, config.tlsListen!);
      return listen(server, config.listen);
    },
    close() {
      closing ??= (async () => {
        context.draining = true;
        events.tell({ type: 'draining' });
        // From now on answers close their connections, and whoever looks is told to send no more; not all look at once.
        await new Promise<void>((resolve) => void clock.after(config.drainDelayMs, resolve));
        const streamsEndMs = Math.max(0, Math.min(config.streamGraceMs, config.drainDeadlineMs - STREAMS_END_MS));
        const cancel = clock.after(streamsEndMs, () => leases.streams.endAll());
        await Promise.all([
          ...[listener, ...(tlsListener === null ? [] : [tlsListener])].map((one) => drain(one, clock, config.drainDeadlineMs)),
          delivered(deliveries, clock, config.drainDeadlineMs),
        ]);
        cancel();
        deliveries.abandonAll();
        await events.close();
        leases.releaseAll();
        journal.flush();
        await link.close();
        health?.close();
      })();
      return closing;
    },
    get healthAddress() {
      return health?.address ?? null;
    },
    get tlsAddress() {
      return tlsServer?.address() ?? null;
    },
    get state() {
      const { size, waiting, inFlight } = leases;
      const delivering = deliveries.size;
      return {
        connected: link.up,
        events: events.up,
        ready: routes.ready,
        leases: size,
        waiting,
        inFlight,
        delivering,
        deadlines: wheel.size,
      };
    },
  };
}

/** Why it is to get no requests; null: it is. A link that is lost is no reason: what is held serves on [13]. */
function notReady(known: boolean, draining: boolean): string | null {
  if (draining) return 'this gateway is about to end';
  return known ? null : 'the routes are not known yet';
}

/** One observer is called as it is: most gateways have no other. */
function observedBy(observers: readonly CallObserver[]): CallObserver {
  const [only] = observers;
  if (only !== undefined && observers.length === 1) return only;
  return { ended: (call, now) => observers.forEach((observer) => observer.ended(call, now)) };
}

/** Resolves when there are routes and certificates, or after `waitMs`: then it is better to say that there are none. */
async function untilReady(ready: () => boolean, clock: Clock, waitMs: number): Promise<void> {
  const end = clock.now() + waitMs;
  while (!ready() && clock.now() < end) await sleep(READY_POLL_MS);
}

async function listen(server: PublicServer, at: ListenAt): Promise<AddressInfo | string | null> {
  server.listen({ ...at, backlog: LISTEN_BACKLOG });
  await once(server, 'listening');
  return server.address();
}

interface LinkListeners {
  routes: RouteTable;
  leases: LeaseTable<Upstream>;
  journal: CallJournal;
  gatekeeper: Gatekeeper;
  certificates: Certificates;
  routed: (version: number) => void;
}

/** What the controller says, to those whom it concerns. */
function linkEvents({ routes, leases, journal, gatekeeper, certificates, routed }: LinkListeners): LinkEvents {
  const rerouted = (revisions: readonly string[], version: number): void => {
    for (const revision of revisions) leases.reroute(revision);
    routed(version);
  };
  return {
    held: () => leases.held(),
    onWelcome(message) {
      const lost = routes.replace(message.version, message.routes);
      leases.linkUp(message.keep);
      journal.linkUp();
      rerouted(lost, message.version);
    },
    onDown: () => leases.linkDown(),
    onMessage(message) {
      switch (message.type) {
        case 'routes':
          rerouted(routes.change(message.version, message.set, message.remove), message.version);
          break;
        case 'grant':
          leases.grant(message.lease, message.start);
          break;
        case 'revoke':
          leases.revoke(message.lease, message.slots, message.deadlineMs);
          break;
        case 'gone':
          leases.gone(message.instance, { cause: message.cause, detail: message.detail });
          break;
        case 'clear':
          leases.clear(message.instance);
          break;
        case 'fail':
          leases.fail(message.revision, message.problem, message.retryAfterSeconds);
          break;
        case 'settings':
          gatekeeper.settings(message);
          break;
        case 'certificates':
          certificates.replace(message.certificates);
          break;
        case 'recall':
          journal.answer(message.id);
          break;
        case 'counted':
          journal.counted(message.seq);
          break;
      }
    },
  };
}

/** Resolves when no event is being delivered, or at the deadline. */
async function delivered(deliveries: Deliveries, clock: Clock, deadlineMs: number): Promise<void> {
  const end = clock.now() + deadlineMs;
  while (deliveries.size > 0 && clock.now() < end) await sleep(DRAIN_POLL_MS);
}

/** Ends the public server: first no new connections, then idle ones, then (at the deadline) all. */
async function drain({ server, closeIdle, closeAll }: PublicListener, clock: Clock, deadlineMs: number): Promise<void> {
  if (!server.listening) return;
  const begun = clock.now();
  const closed = once(server, 'close').then(() => true);
  // Not http.Server's own close, which resets idle connections at once.
  NetServer.prototype.close.call(server);
  for (;;) {
    if (await Promise.race([closed, sleep(DRAIN_POLL_MS).then(() => false)])) break;
    const passed = clock.now() - begun;
    if (passed >= Math.min(IDLE_GRACE_MS, deadlineMs)) closeIdle();
    if (passed >= deadlineMs) closeAll();
  }
}
