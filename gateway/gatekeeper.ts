/**
 * Whether a request may come in: who calls (token or JWT), how often, and what its namespace is allowed.
 * Asked before a byte of the body is read and before an instance is started for it. Functions that are
 * public and unlimited, in a namespace without limits, are never asked about.
 */
import type { BlockList } from 'node:net';
import type { Auth, RateLimit } from '#contract/access.ts';
import type { ErrorCode } from '#contract/errors.ts';
import type { ControllerMessage, NamespaceLimits } from '#contract/link.ts';
import type { Clock } from '#kit/clock.ts';
import type { Log } from '#kit/log.ts';
import { fetchDocument } from './auth/fetch.ts';
import { InvalidToken, JwtChecks } from './auth/jwt.ts';
import { KeyStore, KeysUnavailable } from './auth/keys.ts';
import { InvokeTokens } from './auth/tokens.ts';
import { addressKey, clientAddress } from './client-address.ts';
import { dropHeaders } from './flat-headers.ts';
import type { RequestHead } from './headers.ts';
import { shareOf, TokenBuckets } from './rate.ts';
import type { RouteEntry } from './routes.ts';

/** Buckets of clients and callers: some 15 MB when all are there. */
const MAX_CLIENT_BUCKETS = 100_000;
/** Buckets of functions and namespaces. */
const MAX_SHARED_BUCKETS = 50_000;
const REALM = 'Bearer realm="fn"';

/** Why a request does not come in. */
export interface Denial {
  code: ErrorCode;
  detail: string;
  retryAfterSeconds?: number;
  /** WWW-Authenticate, for 401. */
  authenticate?: string;
}

/** `counted`: let in, and one of the requests at a time of its namespace until `leave`. */
export type Verdict = Denial | 'in' | 'counted';

type Settings = Extract<ControllerMessage, { type: 'settings' }>;

export interface GatekeeperOptions {
  clock: Clock;
  log: Log;
  trustedProxies: BlockList;
  /** Networks beside the public internet where keys may be fetched from. */
  jwksAllow: BlockList;
  fetchKeys?: (url: string) => Promise<string>;
}

export class Gatekeeper {
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #trustedProxies: BlockList;
  readonly #tokens = new InvokeTokens();
  readonly #jwt: JwtChecks;
  readonly #clients: TokenBuckets;
  readonly #shared: TokenBuckets;
  #gateways = 1;
  #limits: ReadonlyMap<string, NamespaceLimits> = new Map();
  /** Requests in this gateway by namespace, of those that have a limit. */
  readonly #inside = new Map<string, number>();

  constructor({ clock, log, trustedProxies, jwksAllow, fetchKeys }: GatekeeperOptions) {
    this.#clock = clock;
    this.#log = log;
    this.#trustedProxies = trustedProxies;
    const fetch = fetchKeys ?? ((url: string) => fetchDocument(url, { allowed: jwksAllow }));
    this.#jwt = new JwtChecks(clock, new KeyStore({ clock, log, fetch }));
    this.#clients = new TokenBuckets(clock, MAX_CLIENT_BUCKETS);
    this.#shared = new TokenBuckets(clock, MAX_SHARED_BUCKETS);
  }

  /** What the controller says: whole, each time. */
  settings({ gateways, limits, tokens }: Pick<Settings, 'gateways' | 'limits' | 'tokens'>): void {
    this.#gateways = gateways;
    this.#limits = new Map(limits.map((limit) => [limit.namespace, limit]));
    this.#tokens.replace(tokens);
  }

  /** Is nothing to be checked for this function? Without `authenticated`: but who calls. */
  open(entry: RouteEntry, authenticated = true): boolean {
    const free = authenticated ? entry.open : entry.route.rateLimit === null;
    return free && (this.#limits.size === 0 || !this.#limits.has(entry.route.namespace));
  }

  /** How often, and what the namespace is allowed: for what proves in its own way who it is from. Takes from the buckets. */
  checkLimits(entry: RouteEntry, head: RequestHead, remote: string): Verdict {
    return this.#limited(entry, head, remote, null);
  }

  /** An event is to be delivered: one of the requests at a time of its namespace. It was counted by the second when it came. */
  checkDelivery(namespace: string): Verdict {
    const limits = this.#limits.size === 0 ? undefined : this.#limits.get(namespace);
    return limits === undefined ? 'in' : this.#withinConcurrency(limits);
  }

  /**
   * Takes from the buckets. The Authorization header is taken out of `head` where it was a token of
   * the platform.
   */
  check(entry: RouteEntry, head: RequestHead, remote: string): Verdict | Promise<Verdict> {
    const { route } = entry;
    const { auth } = route;
    if (auth.type === 'public') return this.#limited(entry, head, remote, null);
    const token = bearerOf(head.forward);
    if (auth.type === 'token') {
      if (!this.#tokens.known) return { code: 'not-ready', detail: 'the tokens are not known yet' };
      const found = token === null ? null : this.#tokens.check(token, route.namespace, this.#clock.wall());
      if (found === null) return UNAUTHORISED;
      dropHeaders(head.forward, (header) => header === 'authorization');
      return this.#limited(entry, head, remote, `token:${found.id}`);
    }
    if (token === null) return { ...UNAUTHORISED, detail: 'this function asks for a JWT: Authorization: Bearer TOKEN' };
    try {
      const caller = this.#jwt.of(auth).verify(token);
      if (!(caller instanceof Promise)) return this.#limited(entry, head, remote, caller.id);
      return caller.then(
        ({ id }) => this.#limited(entry, head, remote, id),
        (error: unknown) => this.#denied(error, auth),
      );
    } catch (error) {
      return this.#denied(error, auth);
    }
  }

  /** A request that was counted is over. */
  leave(namespace: string): void {
    const inside = (this.#inside.get(namespace) ?? 0) - 1;
    if (inside > 0) this.#inside.set(namespace, inside);
    else this.#inside.delete(namespace);
  }

  #denied(error: unknown, { issuer }: Extract<Auth, { type: 'jwt' }>): Denial {
    if (error instanceof InvalidToken) {
      return {
        code: 'unauthorized',
        detail: error.message,
        authenticate: `${REALM}, error="invalid_token", error_description="${error.message.replaceAll(/["\\]/g, '')}"`,
      };
    }
    if (error instanceof KeysUnavailable) {
      // Where the keys are and why they are away is for the log; a caller cannot help it.
      return {
        code: 'not-ready',
        detail: 'the keys that tokens are checked with cannot be had now',
        retryAfterSeconds: error.retryAfterSeconds,
      };
    }
    this.#log.error({ issuer, error: error instanceof Error ? error.stack : String(error) }, 'a token could not be checked');
    return { code: 'internal', detail: 'the token could not be checked' };
  }

  /** By the function's limit, then by the namespace's. */
  #limited({ route }: RouteEntry, head: RequestHead, remote: string, caller: string | null): Verdict {
    const { namespace, name, rateLimit } = route;
    if (rateLimit !== null) {
      const wait = this.#take(`${namespace}/${name}`, rateLimit, head, remote, caller);
      if (wait > 0) {
        const whose = { function: 'function', ip: 'client address', caller: 'caller' }[rateLimit.by];
        return tooOften(`over ${rateLimit.requestsPerSecond} requests per second, the rate limit of ${name} per ${whose}`, wait);
      }
    }
    const limits = this.#limits.get(namespace);
    return limits === undefined ? 'in' : this.#withinNamespace(limits);
  }

  #take(key: string, limit: RateLimit, head: RequestHead, remote: string, caller: string | null): number {
    const { requestsPerSecond, burst, by } = limit;
    const rate = shareOf({ perSecond: requestsPerSecond, burst: burst ?? Math.max(1, Math.ceil(requestsPerSecond)) }, this.#gateways);
    if (by === 'function') return this.#shared.take(key, rate);
    const whom = by === 'caller' && caller !== null ? caller : addressKey(clientAddress(remote, head.forwardedFor, this.#trustedProxies));
    return this.#clients.take(`${key} ${whom}`, rate);
  }

  #withinNamespace(limits: NamespaceLimits): Verdict {
    const { namespace, requestsPerSecond } = limits;
    if (this.#isFull(limits)) return tooMany(limits);
    if (requestsPerSecond !== null) {
      // A namespace that may do nothing may not do it once, either.
      const burst = requestsPerSecond === 0 ? 0 : Math.max(1, Math.ceil(requestsPerSecond));
      const rate = burst === 0 ? { perSecond: 0, burst } : shareOf({ perSecond: requestsPerSecond, burst }, this.#gateways);
      const wait = this.#shared.take(namespace, rate);
      if (wait > 0) return tooOften(`over ${requestsPerSecond} requests per second, the limit of the namespace ${namespace}`, wait);
    }
    return this.#withinConcurrency(limits);
  }

  #isFull({ namespace, concurrency }: NamespaceLimits): boolean {
    if (concurrency === null) return false;
    return (this.#inside.get(namespace) ?? 0) >= (concurrency === 0 ? 0 : Math.max(1, Math.floor(concurrency / this.#gateways)));
  }

  #withinConcurrency(limits: NamespaceLimits): Verdict {
    const { namespace, concurrency } = limits;
    if (concurrency === null) return 'in';
    if (this.#isFull(limits)) return tooMany(limits);
    this.#inside.set(namespace, (this.#inside.get(namespace) ?? 0) + 1);
    return 'counted';
  }
}

const tooMany = ({ namespace, concurrency }: NamespaceLimits): Denial => ({
  code: 'too-many-requests',
  detail: `the namespace ${namespace} may have ${concurrency} requests at a time`,
  retryAfterSeconds: 1,
});

/** The same for no token, a wrong one, an expired one, one of another namespace. */
const UNAUTHORISED: Denial = {
  code: 'unauthorized',
  detail: 'this function asks for a token of the platform that may invoke it: Authorization: Bearer TOKEN',
  authenticate: REALM,
};

const tooOften = (detail: string, wait: number): Denial => ({ code: 'rate-limited', detail, retryAfterSeconds: Math.ceil(wait) });

/** The token of the one Authorization header; null where there is none, or more than one, or another scheme. */
function bearerOf(flat: readonly string[]): string | null {
  let value: string | null = null;
  for (let i = 0; i < flat.length; i += 2) {
    if (flat[i] !== 'authorization') continue;
    if (value !== null) return null;
    value = flat[i + 1]!;
  }
  return value === null ? null : (/^bearer +([A-Za-z0-9._~+/-]+=*)$/i.exec(value)?.[1] ?? null);
}
