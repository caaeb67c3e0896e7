/** Settings of the controller: one schema, with a default, a unit and a reason for each. */
import { availableParallelism, totalmem } from 'node:os';
import { z } from 'zod';
import { HostPattern } from '#contract/access.ts';
import { SettingsWrong } from '#kit/settings-wrong.ts';
import { parseStoreUrl } from '#kit/store-url.ts';
import { KubernetesSettings } from './kube/settings.ts';
import { CORE_DEFAULTS, type CoreSettings } from './core/settings.ts';
import type { DriverFeatures } from './driver/types.ts';

/** What is wrong with the address of a store; null: nothing. */
function storeFault(text: string): string | null {
  try {
    parseStoreUrl(text);
    return null;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

const number = (fallback: number) => z.coerce.number().default(fallback);
const cores = availableParallelism();
const totalMib = Math.floor(totalmem() / 1024 / 1024);

/** How the process driver starts a runtime that is not Node: see controller/driver/process/runtimes.ts. */
const ShimStart = z.strictObject({
  shim: z.string(),
  command: z.string().optional(),
  args: z.array(z.string()).optional(),
  version: z.string().optional(),
});

const hostPort = z.string().regex(/^(?:\[[0-9a-fA-F:]+\]|[^:]+):\d{1,5}$/, 'must be HOST:PORT');

export const ControllerConfig = z.object({
  /** Folder with all that lasts. Set by the supervisor. */
  FN_HOME: z.string().min(1),
  /** docker or process; the supervisor has resolved `auto`. */
  FN_DRIVER: z.enum(['docker', 'process', 'kubernetes']),
  /** The Docker engine's socket on this host, `unix:///PATH`: the supervisor has found it, as the Docker CLI would. With the docker driver only. */
  DOCKER_HOST: z.string().optional(),
  /** JSON of controller/kube/settings.ts: which cluster and namespace, and what pods of instances are like. With the kubernetes driver only. */
  FN_KUBERNETES: z
    .string()
    .default('{}')
    .transform((text, context) => {
      const parsed = KubernetesSettings.safeParse(parseJson(text));
      if (parsed.success) return parsed.data;
      for (const { path, message } of parsed.error.issues)
        context.addIssue({ code: 'custom', message: path.length === 0 ? message : `${path.join('.')}: ${message}` });
      return z.NEVER;
    }),
  /** `sqlite`, or redis://…, see docs/operations.md. */
  FN_STORE: z
    .string()
    .default('sqlite')
    .refine(
      (text) => storeFault(text) === null,
      // Without what was given: there may be a password in it.
      { error: (issue) => storeFault(String(issue.input)) ?? 'is no store' },
    ),
  /** How long a store that is away is waited for at the start, seconds. The supervisor sets more where it starts a controller again. */
  FN_STORE_WAIT_SECONDS: number(5).pipe(z.number().min(0).max(86_400)),
  /** 1: there are other controllers of this home; it waits until it leads. Set by the supervisor. */
  FN_STANDBY: z.enum(['0', '1']).default('0'),
  /** http://HOST:PORT under which functions are served, for the URLs that are shown. */
  FN_PUBLIC_URL: z.url().transform((url) => url.replace(/\/+$/, '')),
  /** Where the gateways serve TLS, for people to read; the supervisor's. */
  FN_TLS_URL: z.url().optional(),
  /** Group of the gateway's process, where it has a uid of its own: it may connect to the link. */
  FN_GATEWAY_GID: z.coerce.number().int().positive().optional(),
  /** JSON: runtime → image. What `fn runtimes build` printed. */
  FN_RUNTIME_IMAGES: z
    .string()
    .default('{}')
    .transform((text, context) => {
      const parsed = z.record(z.string(), z.string()).safeParse(parseJson(text));
      if (parsed.success) return parsed.data;
      context.addIssue({ code: 'custom', message: 'must be a JSON object of runtime names and images' });
      return z.NEVER;
    }),
  /** JSON: runtime → file of its shim where this Node runs it, else how it is started, for the process driver. */
  FN_RUNTIME_SHIMS: z
    .string()
    .default('{}')
    .transform((text, context) => {
      const parsed = z.record(z.string(), z.union([z.string(), ShimStart])).safeParse(parseJson(text));
      if (parsed.success) return parsed.data;
      context.addIssue({ code: 'custom', message: 'must be a JSON object of runtime names and files, or {"shim","command","args"}' });
      return z.NEVER;
    }),
  /** Flags that instances of Node are started with by the process driver, between spaces: --inspect=127.0.0.1:9229. */
  FN_NODE_FLAGS: z
    .string()
    .default('')
    .transform((text) => text.split(/\s+/).filter(Boolean)),
  /** HOST:PORT for the control API over TCP, with a token. Without it there is only the unix socket. */
  FN_API_LISTEN: hostPort.optional(),
  /** File of the token for the control API over TCP; without it HOME/token, made where it is not there. Where there are several controllers, all need the same. */
  FN_API_TOKEN_FILE: z.string().regex(/^\//, 'must be an absolute path').optional(),
  /** HOST:PORT where gateways of other hosts dial the link, and the dispatcher's. With FN_LINK_TOKEN_FILE. */
  FN_LINK_LISTEN: hostPort.optional(),
  FN_EVENTS_LISTEN: hostPort.optional(),
  /** File of the token that gateways show on links over TCP: 32 characters at least. Read again when it changes. */
  FN_LINK_TOKEN_FILE: z.string().regex(/^\//, 'must be an absolute path').optional(),
  /** Folder with tls.crt and tls.key for links over TCP: then they are TLS. Read again when it changes. Without it: for networks that are trusted. */
  FN_LINK_TLS_DIR: z.string().regex(/^\//, 'must be an absolute path').optional(),
  /** HOST:PORT of /livez, /readyz and /leadz, for whoever watches over the process. Nowhere, unless said. */
  FN_HEALTH_LISTEN: hostPort.optional(),
  /** File of the key that secrets are sealed with; without it HOME/secret.key. On another disk, a copy of the home alone tells no secret. */
  FN_SECRET_KEY_FILE: z.string().regex(/^\//, 'must be an absolute path').optional(),
  /** Registries that images are pulled from for tokens of some namespaces, between commas; `*`: any. Public ones, where it is not set. */
  FN_REGISTRIES: z
    .string()
    .transform((text) =>
      text
        .split(',')
        .map((one) => one.trim())
        .filter(Boolean),
    )
    .optional(),
  /** Hosts by which clients reach the platform beside that of FN_PUBLIC_URL, between commas, as a proxy's: no function gets a route for one. */
  FN_PUBLIC_HOSTS: z
    .string()
    .default('')
    .transform((text) =>
      text
        .split(',')
        .map((one) => one.trim().toLowerCase())
        .filter(Boolean),
    )
    .pipe(z.array(HostPattern)),
  /** Entries of the audit log that are kept. 100,000 are some 40 MB. */
  FN_AUDIT_KEEP: number(100_000).pipe(z.number().int().min(100).max(10_000_000)),
  /**
   * Logs of all functions together that are kept in a Redis, MiB: where controllers share no disk (the kubernetes driver). The oldest go
   * first. It is memory of the Redis, so less than functions may have on a disk.
   */
  FN_LOGS_IN_STORE_MIB: number(256).pipe(z.number().int().min(1).max(1_048_576)),
  /** Records of calls that are kept for fn why and fn calls: some 600 bytes each. */
  FN_CALLS_KEPT: number(100_000).pipe(z.number().int().min(100).max(10_000_000)),
  /** How long, seconds. A week: who asks why usually asks today. */
  FN_CALLS_MAX_AGE_SECONDS: number(604_800).pipe(z.number().min(60)),
  /** From so long on a call is listed as slow, ms; the gateways' setting of this name. */
  FN_SLOW_MS: number(1_000).pipe(z.number().int().min(1)),
  /** Where /metrics of this process is served, HOST:PORT. Nowhere, unless said. */
  FN_METRICS_LISTEN: hostPort.optional(),
  FN_LOG_LEVEL: z.enum(['debug', 'info', 'warn', 'error', 'silent']).default('info'),
  /** Memory that all instances may take together, MiB. Three quarters of the host: the rest is for it and for page cache. */
  FN_MEMORY_BUDGET_MIB: number(Math.floor(totalMib * 0.75)).pipe(z.number().int().min(128)),
  /** CPU that all specialised instances may be promised together, cores. 32 × what there is: most are idle, and the kernel shares fairly. */
  FN_CPU_BUDGET: number(cores * 32).pipe(z.number().min(0.1)),
  /** Instances created at a time. One per core: a start is 0.28 s of CPU. */
  FN_MAX_CREATES: number(Math.max(CORE_DEFAULTS.maxCreates, cores)).pipe(z.number().int().min(1).max(5_000)),
  /** Generic instances kept ready of the default pool. */
  FN_POOL: number(CORE_DEFAULTS.poolSize).pipe(z.number().int().min(0).max(1_000)),
  /** Idle time after which an instance is frozen, ms. */
  FN_FREEZE_AFTER_MS: number(CORE_DEFAULTS.freezeAfterMs).pipe(z.number().min(0)),
  /** How long WebSockets and event streams go on when their revision has lost its traffic, ms; then they are ended, and clients connect again. */
  FN_STREAM_DRAIN_MS: number(CORE_DEFAULTS.streamDrainMs).pipe(z.number().int().min(0).max(86_400_000)),
  /** Revisions kept of a function, beside those that traffic needs: enough for a rollback or two, and each is a bundle on disk. */
  FN_KEEP_REVISIONS: number(10).pipe(z.number().int().min(1).max(1_000)),
  /** Days after which a revision without traffic goes. */
  FN_KEEP_REVISIONS_DAYS: number(30).pipe(z.number().min(0.01).max(36_500)),
  /** How long an image stays that no revision is made of, seconds after it was brought. An hour: whoever brought it is about to deploy it. */
  FN_IMAGE_KEEP_SECONDS: number(3_600).pipe(z.number().int().min(1).max(31_536_000)),
  /** Folder with certificates for custom domains, see docs/operations.md. Without it there are none. */
  FN_TLS_CERTS: z.string().min(1).optional(),
  /** 1: functions may have egress although this host cannot filter it. */
  FN_ALLOW_UNFILTERED_EGRESS: z.enum(['0', '1']).default('0'),
});
export type ControllerConfig = z.infer<typeof ControllerConfig>;

/** Where instances are made on other machines, those of this one say nothing of what there is room for. */
const ON_KUBERNETES = {
  /** MiB. Enough to begin with, and little enough to hurt nobody: what a cluster may give to functions, only its people know. */
  FN_MEMORY_BUDGET_MIB: '4096',
  /** Cores: in effect none. The scheduler places pods by what they ask for. */
  FN_CPU_BUDGET: '100000',
  /** Nodes make pods, several at a time each. */
  FN_MAX_CREATES: '10',
} as const;

/** Reads the settings. Throws an Error whose message names each variable that is wrong. */
export function readConfig(env: NodeJS.ProcessEnv): ControllerConfig {
  const parsed = ControllerConfig.safeParse(env.FN_DRIVER === 'kubernetes' ? { ...ON_KUBERNETES, ...env } : env);
  const faults = parsed.success
    ? [...linkFaults(parsed.data), ...severalControllersFaults(parsed.data), ...engineFaults(parsed.data)]
    : parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`);
  if (parsed.success && faults.length === 0) return parsed.data;
  throw new SettingsWrong(`settings are wrong:\n${faults.map((fault) => `  ${fault}`).join('\n')}`);
}

/** Said at once, and not by the one that stands by when it is to lead. */
function linkFaults({ FN_LINK_LISTEN, FN_EVENTS_LISTEN, FN_LINK_TOKEN_FILE }: ControllerConfig): string[] {
  if ((FN_LINK_LISTEN === undefined && FN_EVENTS_LISTEN === undefined) || FN_LINK_TOKEN_FILE !== undefined) return [];
  return ['FN_LINK_TOKEN_FILE: must be given with FN_LINK_LISTEN and FN_EVENTS_LISTEN: nobody dials without a token'];
}

/** Instances are reached by sockets in folders of this host, so their engine is on it. */
function engineFaults({ FN_DRIVER, DOCKER_HOST }: ControllerConfig): string[] {
  if (FN_DRIVER !== 'docker' || !DOCKER_HOST || engineSocket({ DOCKER_HOST }) !== undefined) return [];
  return [`DOCKER_HOST: must be unix:///PATH, an engine on this host, and not ${DOCKER_HOST}`];
}

/** Path of the engine's socket; undefined: the usual one. */
export function engineSocket({ DOCKER_HOST }: Pick<ControllerConfig, 'DOCKER_HOST'>): string | undefined {
  return /^(?:unix:\/\/)?(\/.+)$/.exec(DOCKER_HOST ?? '')?.[1];
}

/** What controllers that have no home in common need to have in common otherwise. */
function severalControllersFaults(config: ControllerConfig): string[] {
  if (config.FN_DRIVER !== 'kubernetes' || config.FN_KUBERNETES.lease === null) return [];
  const faults: string[] = [];
  const why = 'where a Lease says who leads, controllers have no home in common';
  if (parseStoreUrl(config.FN_STORE).kind === 'sqlite') faults.push(`FN_STORE: must be a Redis: ${why}`);
  if (config.FN_SECRET_KEY_FILE === undefined) faults.push(`FN_SECRET_KEY_FILE: must be given, the same to all: ${why}`);
  if (config.FN_API_LISTEN !== undefined && config.FN_API_TOKEN_FILE === undefined)
    faults.push(`FN_API_TOKEN_FILE: must be given with FN_API_LISTEN, the same to all: ${why}`);
  return faults;
}

/** What people should know of what was not said, a sentence each. */
export function settingsNotes(config: ControllerConfig, env: NodeJS.ProcessEnv): string[] {
  if (config.FN_DRIVER !== 'kubernetes' || env.FN_MEMORY_BUDGET_MIB !== undefined) return [];
  return [
    `FN_MEMORY_BUDGET_MIB is not set: all instances together may take ${config.FN_MEMORY_BUDGET_MIB} MiB of the cluster, whatever it has.`,
  ];
}

/** Longer than a claim takes on a busy machine; under load that does not end, a pod that takes two seconds to come may wait for one. */
const KUBERNETES_REFILL_MS = { delay: 100, most: 1_000 } as const;

/** What the core needs of them, on a host that can do so much. The default pool's network is what a function gets that does not say. */
export function coreSettings(config: ControllerConfig, features: Pick<DriverFeatures, 'freeze' | 'egress'>): CoreSettings {
  return {
    ...CORE_DEFAULTS,
    memoryBudgetMib: config.FN_MEMORY_BUDGET_MIB,
    cpuBudget: config.FN_CPU_BUDGET,
    maxCreates: config.FN_MAX_CREATES,
    poolSize: config.FN_POOL,
    // Nodes make pods, and the API server is asked for them when the request that emptied the pool has its instance.
    refillDelayMs: config.FN_DRIVER === 'kubernetes' ? KUBERNETES_REFILL_MS.delay : CORE_DEFAULTS.refillDelayMs,
    refillMaxDelayMs: config.FN_DRIVER === 'kubernetes' ? KUBERNETES_REFILL_MS.most : CORE_DEFAULTS.refillMaxDelayMs,
    streamDrainMs: config.FN_STREAM_DRAIN_MS,
    freezeAfterMs: features.freeze ? config.FN_FREEZE_AFTER_MS : null,
    defaultPool: {
      runtime: 'node',
      memoryClassMib: 128,
      network: features.egress === 'none' ? 'none' : 'egress',
      image: null,
      sandbox: null,
    },
  };
}

/** `[::1]:7070` or `127.0.0.1:7070` */
export function hostAndPort(listen: string): { host: string; port: number } {
  const colon = listen.lastIndexOf(':');
  return { host: listen.slice(0, colon).replace(/^\[|\]$/g, ''), port: Number(listen.slice(colon + 1)) };
}

/** How long revisions that traffic does not need are kept. */
export function retention(config: ControllerConfig): { count: number; maxAgeMs: number } {
  return { count: config.FN_KEEP_REVISIONS, maxAgeMs: config.FN_KEEP_REVISIONS_DAYS * 86_400_000 };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // Reported by the schema, which names the variable.
    return undefined;
  }
}
