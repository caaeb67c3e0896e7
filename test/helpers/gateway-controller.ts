/** A controller for tests of the gateway: speaks the link, grants what it is told to, records what it hears. */
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { type ControllerMessage, GatewayMessage, type Route, type RouteTarget, type StartInfo } from '#contract/link.ts';
import type { Address } from '#contract/runtime.ts';
import { newInstanceId, newLeaseId } from '#kit/ids.ts';
import type { LinkTarget } from '#kit/link-endpoint.ts';
import { LinkGate } from '#kit/link-gate.ts';
import { silentLog } from '#kit/log.ts';
import { encodeLine, LineSplitter } from '#kit/ndjson.ts';
import type { LinkFiles, NetworkKind } from './link-files.ts';

type Heard<T extends GatewayMessage['type']> = Extract<GatewayMessage, { type: T }>;
type Sent<T extends ControllerMessage['type']> = Extract<ControllerMessage, { type: T }>;
/** A message of the controller without its term, which the fake adds. */
type Unfenced<M> = M extends unknown ? Omit<M, 'term'> : never;

/** How a test's route differs from one that nobody said anything about. */
export type RouteOverrides = Partial<Omit<Route, 'namespace' | 'name' | 'targets'>> & Partial<Omit<RouteTarget, 'number' | 'percent'>>;
type RouteOptions = RouteOverrides & { number?: number; namespace?: string };

/** A route with these shares: percent by number of the revision. */
export function testRoute(
  namespace: string,
  name: string,
  shares: Record<number, number> = { 1: 100 },
  { timeoutMs = 10_000, maxStreamMs = 60_000, maxSlots = 100, ...access }: RouteOverrides = {},
): Route {
  const targets = Object.entries(shares).map(([number, percent]) => ({
    revision: `${namespace}/${name}@${number}`,
    number: Number(number),
    percent,
    timeoutMs,
    maxStreamMs,
    maxSlots,
  }));
  return {
    namespace,
    name,
    targets,
    routes: [],
    cors: null,
    auth: { type: 'public' },
    rateLimit: null,
    sticky: null,
    async: true,
    ...access,
  };
}

export class FakeController {
  readonly path: string;
  term: number;
  routes: Route[] = [];
  version = 1;
  readonly heard: GatewayMessage[] = [];
  /** What was granted, in its order; by which link, where it was granted by one only. */
  readonly granted: { lease: string; instance: string; to?: Socket | undefined }[] = [];
  /** What to do with a message, beside recording it. `from` is its link. */
  onMessage: (message: GatewayMessage, from?: Socket) => void = () => {};
  /** Which held leases a hello keeps. */
  keep: (held: Heard<'hello'>['held']) => string[] = (held) => held.map((lease) => lease.lease);
  #server: Server | LinkGate | null = null;
  /** Where it listens over the network, where it does; the port is the same at each start. */
  readonly #network: { kind: NetworkKind; files: LinkFiles; port: number } | null;
  readonly #sockets = new Set<Socket>();

  constructor(
    path: string,
    { term = 1, network = null }: { term?: number; network?: { kind: NetworkKind; files: LinkFiles } | null } = {},
  ) {
    this.path = path;
    this.term = term;
    this.#network = network === null ? null : { ...network, port: 0 };
  }

  /** Where gateways dial it, once it has started. */
  get target(): LinkTarget {
    if (this.#network === null) return { kind: 'unix', path: this.path };
    const { kind, files, port } = this.#network;
    return files.target(kind, port);
  }

  async start(): Promise<this> {
    if (this.#network !== null) {
      const { kind, files, port } = this.#network;
      const gate = new LinkGate({
        listen: files.listen(kind, port),
        peer: 'a gateway',
        greetingTimeoutMs: 10_000,
        onAdmitted: (socket, rest) => this.#serve(socket, rest),
        log: silentLog,
      });
      await gate.start();
      this.#network.port = gate.address!.port;
      this.#server = gate;
      return this;
    }
    rmSync(this.path, { force: true });
    const server = createServer((socket) => this.#serve(socket));
    this.#server = server;
    server.listen(this.path);
    await once(server, 'listening');
    return this;
  }

  /** Cuts every link and stops listening, as a controller does that was killed. */
  async stop(): Promise<void> {
    const server = this.#server;
    this.#server = null;
    if (server === null) return;
    if (server instanceof LinkGate) {
      await server.close();
      return;
    }
    const closed = once(server, 'close');
    server.close();
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  #serve(socket: Socket, rest: Buffer | null = null): void {
    this.#sockets.add(socket);
    socket.on('close', () => this.#sockets.delete(socket));
    socket.on('error', () => {});
    const splitter = new LineSplitter(1 << 20);
    const receive = (chunk: Buffer) => {
      for (const line of splitter.push(chunk)) {
        const message = GatewayMessage.parse(JSON.parse(line));
        this.heard.push(message);
        if (message.type === 'hello') {
          this.#write(socket, { type: 'welcome', keep: this.keep(message.held), drop: [], version: this.version, routes: this.routes });
        }
        this.onMessage(message, socket);
      }
    };
    if (rest !== null) receive(rest);
    socket.on('data', receive);
    socket.resume();
  }

  #write(socket: Socket, message: Unfenced<ControllerMessage>, term = this.term): void {
    socket.write(encodeLine({ ...message, term }));
  }

  /** To every gateway, or to the one of this link. */
  send(message: Unfenced<ControllerMessage>, term = this.term, to?: Socket): void {
    for (const socket of to === undefined ? this.#sockets : [to]) this.#write(socket, message, term);
  }

  get links(): number {
    return this.#sockets.size;
  }

  all<T extends GatewayMessage['type']>(type: T): Heard<T>[] {
    return this.heard.filter((message): message is Heard<T> => message.type === type);
  }

  /** Resolves with the first message of the type that fits, also one that was heard already. */
  async hear<T extends GatewayMessage['type']>(type: T, fits: (message: Heard<T>) => boolean = () => true): Promise<Heard<T>> {
    const deadline = performance.now() + 30_000;
    for (;;) {
      const found = this.all(type).find(fits);
      if (found !== undefined) return found;
      if (performance.now() > deadline) throw new Error(`no ${type} was heard; heard: ${JSON.stringify(this.heard)}`);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  /** Grants slots of an instance at this address, to every gateway or to the one of the link `to`. Returns the ids. */
  grant(
    revision: string,
    address: Address,
    {
      slots = 1,
      instance = newInstanceId(),
      start = { kind: 'pooled', startMs: 0, initMs: 3 },
      to,
    }: { slots?: number; instance?: string; start?: StartInfo; to?: Socket | undefined } = {},
  ): { lease: string; instance: string } {
    const lease = newLeaseId();
    this.send({ type: 'grant', lease: { lease, instance, revision, address, slots }, start }, this.term, to);
    this.granted.push({ lease, instance, to });
    return { lease, instance };
  }

  /**
   * Grants one lease of this address for every revision that has waiters, as soon as it is wanted; to each gateway that
   * wants it one of its own, and another one once that was given back.
   */
  grantOnDemand(address: (revision: string) => Address, slots = 50): void {
    /** By link, the revisions that it holds a lease of, with the lease. */
    const held = new Map<Socket | undefined, Map<string, string>>();
    this.onMessage = (message, from) => {
      const leases = held.get(from) ?? new Map<string, string>();
      held.set(from, leases);
      if (message.type === 'release') {
        for (const [revision, lease] of leases) if (lease === message.lease) leases.delete(revision);
      }
      if (message.type !== 'want' || message.waiting === 0 || leases.has(message.revision)) return;
      leases.set(message.revision, this.grant(message.revision, address(message.revision), { slots, to: from }).lease);
    };
  }

  /** Routes a function to a revision, and tells it. */
  route(name: string, { number = 1, namespace = 'default', timeoutMs = 10_000, maxSlots = 100, ...more }: RouteOptions = {}): string {
    const route = testRoute(namespace, name, { [number]: 100 }, { timeoutMs, maxSlots, ...more });
    this.put(route);
    return route.targets[0]!.revision;
  }

  /** Settings of all gateways: without limits and tokens but for those given. */
  settings({ gateways = 1, limits = [], tokens = [] }: Partial<Omit<Sent<'settings'>, 'type' | 'term'>> = {}): void {
    this.send({ type: 'settings', gateways, limits, tokens });
  }

  /** Tells a change of nothing, and waits until the gateways have it: then they have all that was said before, too. */
  async settled(): Promise<void> {
    this.version++;
    this.send({ type: 'routes', version: this.version, set: [], remove: [] });
    await this.hear('routed', (message) => message.version === this.version);
  }

  /** Sets a route as it is, and tells it. */
  put(route: Route): void {
    const { namespace, name } = route;
    this.routes = [...this.routes.filter((other) => other.name !== name || other.namespace !== namespace), route];
    this.version++;
    this.send({ type: 'routes', version: this.version, set: [route], remove: [] });
  }
}
