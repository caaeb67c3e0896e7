/** What a supervisor is started with: settled by the command line, so that the supervisor asks nobody. */

/** What runs instances. `kubernetes`: in a cluster, while gateway and controller run here. */
export type DriverName = 'docker' | 'process' | 'kubernetes';

export interface SupervisorOptions {
  home: string;
  host: string;
  /** 0: any free one. */
  port: number;
  driver: 'auto' | DriverName;
  /** TLS: where it is listened for, and the folder with NAME.crt and NAME.key. */
  tls?: TlsOptions;
  /** Whose images are built before it starts, where they are not there. Default: node. */
  runtimes?: string[];
  /** HOST:PORT of the control API over TCP, where that is wanted. */
  api?: string;
  /** HOST:PORT of the gateway's /metrics, where that is wanted; the controller's is on the next port. */
  metrics?: string;
  /** Where functions are kept, without a password: that is in FN_STORE of the environment. Default: sqlite. */
  store?: string;
  /** Gateway processes, all on the same port. Default: 1. */
  gateways?: number;
  /** Controllers, of which one leads and the others stand by. Default: 1. */
  controllers?: number;
  /** Generic instances kept ready. */
  pool?: number;
  memoryBudgetMib?: number;
  allowUnfilteredEgress?: boolean;
  /** The command that it was started by, for what a person is to type instead. Default: fn up. */
  command?: 'fn up' | 'fn dev';
}

export interface TlsOptions {
  host: string;
  /** 0: any free one. */
  port: number;
  certificates: string;
}

/** The options as text, each as `fn up` has it; `fn up` on a platform that runs tells by them what would be different. */
export function startedWith({
  host,
  api,
  metrics,
  store,
  gateways = 1,
  controllers = 1,
  pool,
  memoryBudgetMib,
  allowUnfilteredEgress,
  runtimes = [],
  tls,
}: SupervisorOptions): Record<string, string> {
  const texts = {
    host,
    api,
    metrics,
    store: store === 'sqlite' ? undefined : store,
    gateways: gateways === 1 ? undefined : String(gateways),
    controllers: controllers === 1 ? undefined : String(controllers),
    pool: pool?.toString(),
    'memory-budget': memoryBudgetMib?.toString(),
    'allow-unfiltered-egress': allowUnfilteredEgress === true ? 'true' : undefined,
    runtimes: runtimes.toSorted().join(','),
    'tls-listen': tls && `${tls.host}:${tls.port}`,
    'tls-certs': tls?.certificates,
  };
  return Object.fromEntries(Object.entries(texts).filter((entry): entry is [string, string] => entry[1] !== undefined));
}

/** What a supervisor tells while it starts; to the terminal, or to the `fn up --detach` that waits for it. */
export type SupervisorEvent =
  | { type: 'step'; text: string }
  | { type: 'ready'; url: string; tlsUrl?: string; driver: DriverName; pid: number }
  | { type: 'failed'; message: string; details: string[]; hint?: string; exitCode: number };

export type Report = (event: SupervisorEvent) => void;

/** The options for the platform's processes, as environment. */
export function settingsEnv({ api, pool, memoryBudgetMib, allowUnfilteredEgress, tls }: SupervisorOptions): Record<string, string> {
  const env: Record<string, string> = {};
  if (api !== undefined) env.FN_API_LISTEN = api;
  if (pool !== undefined) env.FN_POOL = String(pool);
  if (memoryBudgetMib !== undefined) env.FN_MEMORY_BUDGET_MIB = String(memoryBudgetMib);
  if (tls !== undefined) env.FN_TLS_CERTS = tls.certificates;
  if (allowUnfilteredEgress) env.FN_ALLOW_UNFILTERED_EGRESS = '1';
  return env;
}

/**
 * Where each process serves /metrics, as environment: the first gateway where it was said, the controller that leads on the
 * next port, the other gateways on those after it.
 */
export function metricsEnv(
  listen: string | undefined,
  gateways = 1,
): { gateways: Record<string, string>[]; controller: Record<string, string> } {
  const match = /^(.*):(\d{1,5})$/.exec(listen ?? '');
  const at = (offset: number): Record<string, string> =>
    match === null ? {} : { FN_METRICS_LISTEN: `${match[1]}:${Number(match[2]) + offset}` };
  return { gateways: Array.from({ length: gateways }, (_, index) => at(index === 0 ? 0 : index + 1)), controller: at(1) };
}
