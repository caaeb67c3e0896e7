/** Settings of the gateway: one schema with a default, a unit and a reason for each. */
import { BlockList } from 'node:net';
import { z } from 'zod';
import type { LinkTarget } from '#kit/link-endpoint.ts';
import { networkList } from '#kit/public-address.ts';
import type { JournalLimits } from './journal.ts';

const count = (min: number, max: number) => z.coerce.number().int().min(min).max(max);

const HostPort = z.string().transform((text, context) => {
  const match = /^(?:\[([0-9a-fA-F:]+)\]|([^:]*)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port > 65_535) {
    context.addIssue({ code: 'custom', message: 'must be HOST:PORT' });
    return z.NEVER;
  }
  return { host: match[1] ?? match[2] ?? '', port };
});

/** Where a link is dialled, over the network. */
const LinkUrl = z.string().transform((text, context) => {
  const match = /^(tcp|tls):\/\/(\[[0-9a-fA-F:]+\]|[^:/]+):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port > 65_535) {
    context.addIssue({ code: 'custom', message: 'must be tcp://HOST:PORT or tls://HOST:PORT' });
    return z.NEVER;
  }
  return { tls: match[1] === 'tls', host: match[2]!.replace(/^\[|\]$/g, ''), port };
});

/** `10.0.0.0/8,192.168.1.7` */
const Networks = z.string().transform((text, context) => {
  const parts = text.split(',').map((item) => item.trim());
  try {
    return networkList(parts.filter((item) => item !== ''));
  } catch (error) {
    context.addIssue({ code: 'custom', message: error instanceof Error ? error.message : String(error) });
    return z.NEVER;
  }
});

export const ConfigSchema = z
  .object({
    /** The controller's link socket, where it is on this host. */
    FN_LINK_SOCKET: z.string().min(1).optional(),
    /** Else where to dial it: tcp://HOST:PORT or tls://HOST:PORT. With FN_LINK_TOKEN_FILE. */
    FN_LINK: LinkUrl.optional(),
    /** The dispatcher's, likewise. */
    FN_EVENTS_LINK: LinkUrl.optional(),
    /** File of the token to show on links over TCP. Read again for every connection. */
    FN_LINK_TOKEN_FILE: z.string().regex(/^\//, 'must be an absolute path').optional(),
    /** File of the CA that links over TLS are checked with; without it those that Node trusts. */
    FN_LINK_CA_FILE: z.string().regex(/^\//, 'must be an absolute path').optional(),
    /** HOST:PORT of /livez and /readyz, for whoever watches over the process. Nowhere, unless said. */
    FN_HEALTH_LISTEN: HostPort.optional(),
    /** At SIGTERM: how long new connections are still taken, ms, while /readyz says no: load balancers hear of it late. */
    FN_DRAIN_DELAY_MS: count(0, 600_000).default(0),
    /** The dispatcher's socket. Without it there are no events: what asks for 202 is answered 503. */
    FN_EVENTS_SOCKET: z.string().min(1).optional(),
    /** A bound socket that was inherited; the supervisor's, so that a restart refuses nobody. */
    FN_LISTEN_FD: count(3, 1_024).optional(),
    /** Or where to listen by itself, HOST:PORT. */
    FN_LISTEN: HostPort.optional(),
    /** A second listener, for TLS: inherited, or HOST:PORT. The controller sends its certificates. */
    FN_TLS_LISTEN_FD: count(3, 1_024).optional(),
    FN_TLS_LISTEN: HostPort.optional(),
    /** Networks beside the public internet where keys for JWTs may be fetched from: addresses and networks, comma-separated. */
    FN_JWKS_ALLOW: Networks.default(new BlockList()),
    /** What clients call this gateway: its host stands in for a missing Host header (HTTP/1.0). */
    FN_PUBLIC_URL: z.url().default('http://localhost:8080'),
    /** Tells gateways apart. Stays the same over restarts, so that the controller knows the heir. */
    FN_GATEWAY_ID: z
      .string()
      .regex(/^[A-Za-z0-9._-]{1,64}$/)
      .optional(),
    FN_LOG_LEVEL: z.enum(['debug', 'info', 'warn', 'error', 'silent']).default('info'),
    /** Peers whose X-Forwarded-* are believed: addresses and networks, comma-separated. Nobody's, unless said. */
    FN_TRUSTED_PROXIES: Networks.default(new BlockList()),
    /** Longest request body, bytes. Bodies are streamed: this bounds traffic, not memory. */
    FN_MAX_BODY_BYTES: count(0, 2 ** 40).default(100 * 1_024 * 1_024),
    /** Memory for bodies of calls that are to be answered later, bytes in all: beyond it 503. One may be of 1 MiB. */
    FN_MAX_COLLECTING_BYTES: count(1_048_576, 2 ** 36).default(256 * 1_024 * 1_024),
    /** Longest wait for a slot, ms. A burst on a cold host needs some 0.3 s of CPU per instance. */
    FN_QUEUE_TIMEOUT_MS: count(1, 3_600_000).default(30_000),
    /** Requests that may wait for one function: some 5 kB each. */
    FN_MAX_WAITING_PER_FUNCTION: count(1, 1_000_000).default(5_000),
    /** Requests that may wait in all: bounds the memory of bursts, some 100 MB. */
    FN_MAX_WAITING: count(1, 1_000_000).default(20_000),
    /** Open connections of clients; more are closed at once. An idle one costs some 10 kB. Fewer, where the process may open too few files. */
    FN_MAX_CONNECTIONS: count(1, 1_000_000).default(25_000),
    /** How long an idle connection is kept, ms. Above the 60 s of common load balancers, which must not meet a closed one. */
    FN_KEEP_ALIVE_TIMEOUT_MS: count(1, 3_600_000).default(65_000),
    /** Time for the head of a request to arrive, ms; checked every second. */
    FN_HEADERS_TIMEOUT_MS: count(100, 600_000).default(10_000),
    /** On an inherited socket connections queue by themselves: the first routes are waited for so long, ms, before they are accepted. */
    FN_ROUTES_WAIT_MS: count(0, 60_000).default(2_000),
    /** At SIGTERM: how long requests in flight may take to end, ms. */
    FN_DRAIN_DEADLINE_MS: count(0, 3_600_000).default(30_000),
    /**
     * At SIGTERM: how long WebSockets and event streams go on, ms, before they are ended in order; at most
     * until shortly before the drain deadline. Few seconds, since whoever types `fn down` waits for them.
     */
    FN_STREAM_GRACE_MS: count(0, 3_600_000).default(5_000),
    /** Requests that are remembered for `fn why`: some 300 bytes each, 2 kB at most. */
    FN_CALLS_REMEMBERED: count(1, 1_000_000).default(10_000),
    /** Where /metrics is served, HOST:PORT: never on the public port. Nowhere, unless said. */
    FN_METRICS_LISTEN: HostPort.optional(),
    /** From so long on a request counts as slow, ms: its record goes to the controller. */
    FN_SLOW_MS: count(1, 3_600_000).default(1_000),
    /** Records of failed, cold and slow requests per second; of more only the number is told. A flood of errors must not be one of records. */
    FN_CALLS_NOTABLE_PER_SECOND: count(0, 10_000).default(200),
    /** Records of other requests per second: a sample. */
    FN_CALLS_SAMPLED_PER_SECOND: count(0, 10_000).default(10),
  })
  .refine((config) => (config.FN_LINK_SOCKET === undefined) !== (config.FN_LINK === undefined), {
    message: 'exactly one of FN_LINK_SOCKET and FN_LINK must be set',
  })
  .refine((config) => config.FN_EVENTS_SOCKET === undefined || config.FN_EVENTS_LINK === undefined, {
    message: 'only one of FN_EVENTS_SOCKET and FN_EVENTS_LINK may be set',
  })
  .refine((config) => (config.FN_LINK === undefined && config.FN_EVENTS_LINK === undefined) || config.FN_LINK_TOKEN_FILE !== undefined, {
    message: 'FN_LINK and FN_EVENTS_LINK need FN_LINK_TOKEN_FILE',
  })
  .refine(
    ({ FN_LINK_CA_FILE: ca, FN_LINK: link, FN_EVENTS_LINK: events }) => ca === undefined || link?.tls === true || events?.tls === true,
    {
      message: 'FN_LINK_CA_FILE is for links over TLS: FN_LINK is to be tls://HOST:PORT',
    },
  )
  .refine((config) => (config.FN_LISTEN_FD === undefined) !== (config.FN_LISTEN === undefined), {
    message: 'exactly one of FN_LISTEN_FD and FN_LISTEN must be set',
  })
  .refine((config) => config.FN_TLS_LISTEN_FD === undefined || config.FN_TLS_LISTEN === undefined, {
    message: 'only one of FN_TLS_LISTEN_FD and FN_TLS_LISTEN may be set',
  });

/** A socket that was inherited, or an address. */
export type ListenAt = { fd: number } | { host: string; port: number };

export interface GatewayConfig {
  link: LinkTarget;
  /** Null: there are no events. */
  events: LinkTarget | null;
  /** Null: no probes are answered. */
  healthListen: { host: string; port: number } | null;
  listen: ListenAt;
  /** Null: no TLS. */
  tlsListen: ListenAt | null;
  jwksAllow: BlockList;
  publicUrl: string;
  gatewayId: string | undefined;
  logLevel: 'debug' | 'info' | 'warn' | 'error' | 'silent';
  trustedProxies: BlockList;
  maxBodyBytes: number;
  maxCollectingBytes: number;
  queueTimeoutMs: number;
  maxWaitingPerFunction: number;
  maxWaiting: number;
  maxConnections: number;
  keepAliveTimeoutMs: number;
  headersTimeoutMs: number;
  routesWaitMs: number;
  drainDelayMs: number;
  drainDeadlineMs: number;
  streamGraceMs: number;
  calls: JournalLimits;
  metricsListen: { host: string; port: number } | null;
}

function linkTarget(
  { FN_LINK_TOKEN_FILE: tokenFile, FN_LINK_CA_FILE: caFile }: z.infer<typeof ConfigSchema>,
  path: string | undefined,
  url: z.infer<typeof LinkUrl> | undefined,
): LinkTarget | null {
  if (path !== undefined) return { kind: 'unix', path };
  if (url === undefined) return null;
  const { tls, host, port } = url;
  // The schema has seen to it that there is one.
  return { kind: 'tcp', host, port, tls: tls ? { caFile: caFile ?? null } : null, tokenFile: tokenFile! };
}

/** Throws an Error whose message names each setting that is wrong, and why. */
export function readConfig(env: Record<string, string | undefined>): GatewayConfig {
  // An empty variable is one that is not set.
  const set = Object.fromEntries(Object.entries(env).filter(([name, value]) => name.startsWith('FN_') && value !== ''));
  const parsed = ConfigSchema.safeParse(set);
  if (!parsed.success)
    throw new Error(parsed.error.issues.map((issue) => `${issue.path.join('.') || 'settings'}: ${issue.message}`).join('; '));
  const config = parsed.data;
  return {
    // One of the two is set.
    link: linkTarget(config, config.FN_LINK_SOCKET, config.FN_LINK)!,
    events: linkTarget(config, config.FN_EVENTS_SOCKET, config.FN_EVENTS_LINK),
    healthListen: config.FN_HEALTH_LISTEN ?? null,
    listen: config.FN_LISTEN_FD === undefined ? config.FN_LISTEN! : { fd: config.FN_LISTEN_FD },
    tlsListen: config.FN_TLS_LISTEN_FD === undefined ? (config.FN_TLS_LISTEN ?? null) : { fd: config.FN_TLS_LISTEN_FD },
    jwksAllow: config.FN_JWKS_ALLOW,
    publicUrl: config.FN_PUBLIC_URL,
    gatewayId: config.FN_GATEWAY_ID,
    logLevel: config.FN_LOG_LEVEL,
    trustedProxies: config.FN_TRUSTED_PROXIES,
    maxBodyBytes: config.FN_MAX_BODY_BYTES,
    maxCollectingBytes: config.FN_MAX_COLLECTING_BYTES,
    queueTimeoutMs: config.FN_QUEUE_TIMEOUT_MS,
    maxWaitingPerFunction: config.FN_MAX_WAITING_PER_FUNCTION,
    maxWaiting: config.FN_MAX_WAITING,
    maxConnections: config.FN_MAX_CONNECTIONS,
    keepAliveTimeoutMs: config.FN_KEEP_ALIVE_TIMEOUT_MS,
    headersTimeoutMs: config.FN_HEADERS_TIMEOUT_MS,
    routesWaitMs: config.FN_ROUTES_WAIT_MS,
    drainDelayMs: config.FN_DRAIN_DELAY_MS,
    drainDeadlineMs: config.FN_DRAIN_DEADLINE_MS,
    streamGraceMs: config.FN_STREAM_GRACE_MS,
    metricsListen: config.FN_METRICS_LISTEN ?? null,
    calls: {
      ring: config.FN_CALLS_REMEMBERED,
      slowMs: config.FN_SLOW_MS,
      notablePerSecond: config.FN_CALLS_NOTABLE_PER_SECOND,
      sampledPerSecond: config.FN_CALLS_SAMPLED_PER_SECOND,
    },
  };
}
