/** A Platform in memory, for tests of what talks to one. It does what the port says, and no more. */
import { DEFAULT_ACCESS, type FunctionAccess } from '#contract/access.ts';
import type { DeployRequest, DeployResponse, LogEntry, PlatformStatus, RevisionView } from '#contract/api.ts';
import type { CallList, CallQuery, Why } from '#contract/call.ts';
import { FnError } from '#contract/errors.ts';
import type { Declaration, DeclaredBy, FunctionView, Revision, Traffic } from '#contract/function.ts';
import type { LogStats } from '#contract/log.ts';
import type { FunctionStats, StatsList, UsageStats } from '#contract/stats.ts';
import { functionPath, previewPath, revisionKey } from '#contract/names.ts';
import type { LogSelection, Platform } from '../../controller/api/platform.ts';

const URL = 'http://localhost:8080';

const USED: UsageStats = {
  cpuSeconds: 1.5,
  memoryReservedGibSeconds: 12,
  memoryUsedGibSeconds: 4,
  memoryPeakBytes: 1_000,
  invocations: 3,
  errors: 1,
  rejected: 0,
  coldStarts: { pooled: 1, full: 0 },
  instancesStarted: 1,
  duration: { sumSeconds: 0.3, p50Ms: 90, p95Ms: 110, p99Ms: 110 },
};

function statsOf(key: string): FunctionStats {
  const [namespace = '', name = ''] = key.split('/');
  return { namespace, name, since: 1, deletedAt: null, ...USED, revisions: [{ number: 1, ...USED }] };
}

interface FakeFunction {
  /** The newest first. */
  revisions: Revision[];
  traffic: Traffic;
  access: FunctionAccess;
  declaredBy?: DeclaredBy;
  generation: number;
}

export class FakePlatform implements Platform {
  readonly calls: string[] = [];
  readonly functions = new Map<string, FakeFunction>();
  readonly logLines: LogEntry[] = [];
  /** What logs() was asked for last. */
  selection: LogSelection | null = null;
  /** Requests that why() knows, as `NAMESPACE ID`. */
  readonly explained = new Set<string>();
  /** Thrown by the next call of any method. */
  failure: unknown = null;
  /** deploy() waits for it, or for its signal. */
  deployGate: Promise<void> = Promise.resolve();
  /** Signals that were aborted, by method. */
  readonly aborted: string[] = [];
  #followers = new Set<(entry: LogEntry) => void>();

  #call(text: string): void {
    this.calls.push(text);
    const { failure } = this;
    this.failure = null;
    if (failure !== null) throw failure;
  }

  #find(namespace: string, name: string): FakeFunction {
    const found = this.functions.get(`${namespace}/${name}`);
    if (found === undefined) throw new FnError('function-not-found', `${name}? Never heard of it.`);
    return found;
  }

  async status(): Promise<PlatformStatus> {
    this.#call('status');
    return {
      version: '0.0.0',
      home: '/home/fn',
      gateway: { pid: 1, url: URL, connected: 1 },
      controller: { pid: 2, url: 'unix:/run/s', term: 1, uptimeSeconds: 1 },
      dispatcher: { pid: null },
      driver: 'fake',
      features: { freeze: false, exactLimits: false, parentCgroup: false, egress: 'none', notes: [] },
      budget: { memoryMib: 1_024, memoryUsedMib: 0, cpu: 2, cpuUsed: 0 },
      runtimes: [{ name: 'node', version: '24' }],
      functions: [],
      instances: [],
    };
  }

  async deploy(
    namespace: string,
    name: string,
    request: DeployRequest,
    signal: AbortSignal,
    declaration?: Declaration,
  ): Promise<DeployResponse> {
    this.#call(`deploy ${namespace}/${name}`);
    await Promise.race([
      this.deployGate,
      new Promise<never>((_resolve, reject) => {
        signal.addEventListener('abort', () => {
          this.aborted.push('deploy');
          reject(signal.reason as Error);
        });
      }),
    ]);
    const before = this.functions.get(`${namespace}/${name}`);
    const number = (before?.revisions.length ?? 0) + 1;
    const revision: Revision = {
      key: revisionKey(namespace, name, number),
      namespace,
      name,
      number,
      bundle: request.bundle,
      entry: request.entry,
      image: request.image,
      settings: { ...request.settings, concurrency: request.settings.concurrency ?? 50, egress: request.settings.egress ?? 'none' },
      form: 'fetch',
      createdAt: 1,
    };
    const declaredBy = declaration === undefined ? before?.declaredBy : { ...declaration, revision: number };
    this.functions.set(`${namespace}/${name}`, {
      ...(declaredBy === undefined ? {} : { declaredBy }),
      revisions: [revision, ...(before?.revisions ?? [])],
      traffic: request.traffic || before === undefined ? [{ revision: number, percent: 100 }] : before.traffic,
      access: request.access ?? before?.access ?? DEFAULT_ACCESS,
      generation: (before?.generation ?? 0) + 1,
    });
    return {
      url: `${URL}${functionPath(namespace, name)}`,
      previewUrl: `${URL}${previewPath(namespace, name, number)}`,
      revision,
      timing: { startMs: 1, initMs: 2, routeMs: 3 },
      start: 'pooled',
      notes: [],
    };
  }

  async describe(namespace: string, name: string): Promise<FunctionView> {
    this.#call(`describe ${namespace}/${name}`);
    return this.#view(namespace, name);
  }

  #view(namespace: string, name: string): FunctionView {
    const { revisions, traffic, access, declaredBy, generation } = this.#find(namespace, name);
    return {
      namespace,
      name,
      url: `${URL}${functionPath(namespace, name)}`,
      urls: [],
      revision: revisions.find(({ number }) => number === traffic[0]!.revision)!,
      traffic,
      access,
      ...(declaredBy === undefined ? {} : { declaredBy }),
      etag: String(generation),
      revisions: revisions.map(({ number }) => number),
      instances: 0,
    };
  }

  async list(namespace?: string): Promise<FunctionView[]> {
    this.#call(`list ${namespace ?? '*'}`);
    const keys = [...this.functions.keys()].map((key) => key.split('/') as [string, string]);
    return keys.filter(([of]) => namespace === undefined || of === namespace).map(([of, name]) => this.#view(of, name));
  }

  async revisions(namespace: string, name: string): Promise<RevisionView[]> {
    this.#call(`revisions ${namespace}/${name}`);
    const { revisions, traffic } = this.#find(namespace, name);
    return revisions.map((revision) => ({
      ...revision,
      percent: traffic.find((share) => share.revision === revision.number)?.percent ?? 0,
      previewUrl: `${URL}${previewPath(namespace, name, revision.number)}`,
      instances: 0,
    }));
  }

  #change(namespace: string, name: string, ifMatch: string | null, change: Partial<FakeFunction>): FunctionView {
    const found = this.#find(namespace, name);
    if (ifMatch !== null && ifMatch !== String(found.generation)) throw new FnError('precondition-failed', 'It has another ETag.');
    Object.assign(found, change, { generation: found.generation + 1 });
    return this.#view(namespace, name);
  }

  async setTraffic(namespace: string, name: string, traffic: Traffic, ifMatch: string | null, _signal: AbortSignal): Promise<FunctionView> {
    this.#call(`traffic ${namespace}/${name}`);
    const known = new Set(this.#find(namespace, name).revisions.map(({ number }) => number));
    for (const { revision } of traffic) if (!known.has(revision)) throw new FnError('revision-not-found', `No revision ${revision}.`);
    return this.#change(namespace, name, ifMatch, { traffic });
  }

  async setAccess(
    namespace: string,
    name: string,
    access: FunctionAccess,
    ifMatch: string | null,
    declaredBy?: DeclaredBy,
  ): Promise<FunctionView> {
    this.#call(`access ${namespace}/${name}`);
    return this.#change(namespace, name, ifMatch, { access, ...(declaredBy === undefined ? {} : { declaredBy }) });
  }

  async delete(namespace: string, name: string): Promise<void> {
    this.#call(`delete ${namespace}/${name}`);
    this.#find(namespace, name);
    this.functions.delete(`${namespace}/${name}`);
  }

  /** Adds a line, also for those who follow. */
  log(entry: LogEntry): void {
    this.logLines.push(entry);
    for (const follower of this.#followers) follower(entry);
  }

  async *logs(namespace: string, name: string, selection: LogSelection, signal: AbortSignal): AsyncGenerator<LogEntry> {
    const { follow, since = 0, limit = Infinity } = selection;
    this.selection = selection;
    this.#call(`logs ${namespace}/${name} ${follow}`);
    this.#find(namespace, name);
    const queue: LogEntry[] = this.logLines.filter(({ t }) => t >= since).slice(-Math.min(limit, this.logLines.length || 1));
    let wake: () => void = () => {};
    const follower = (entry: LogEntry): void => {
      queue.push(entry);
      wake();
    };
    const onAbort = (): void => {
      this.aborted.push('logs');
      wake();
    };
    this.#followers.add(follower);
    signal.addEventListener('abort', onAbort);
    try {
      for (;;) {
        for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
          if (next.msg === 'BREAK') throw new Error('the reader broke');
          yield next;
        }
        if (!follow || signal.aborted) return;
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    } finally {
      this.#followers.delete(follower);
      signal.removeEventListener('abort', onAbort);
    }
  }

  async logStats(namespace: string, name: string): Promise<LogStats> {
    this.#call(`stats ${namespace}/${name}`);
    this.#find(namespace, name);
    return { bytes: 10, droppedLines: 3, oldest: 1 };
  }

  async stats(namespaces?: readonly string[]): Promise<StatsList> {
    this.#call(`stats ${namespaces?.join() ?? '*'}`);
    const keys = [...this.functions.keys()].filter((key) => namespaces?.some((one) => key.startsWith(`${one}/`)) ?? true);
    return {
      source: 'cgroup',
      functions: keys.map(statsOf),
      pool: { cpuSeconds: 1, memoryReservedGibSeconds: 2, memoryUsedGibSeconds: 1 },
    };
  }

  async functionStats(namespace: string, name: string): Promise<FunctionStats> {
    this.#call(`functionStats ${namespace}/${name}`);
    this.#find(namespace, name);
    return statsOf(`${namespace}/${name}`);
  }

  async listCalls(namespace: string, name: string, query: CallQuery): Promise<CallList> {
    this.#call(`calls ${namespace}/${name} ${JSON.stringify(query)}`);
    this.#find(namespace, name);
    return { calls: [] };
  }

  async why(namespace: string, requestId: string): Promise<Why> {
    this.#call(`why ${namespace} ${requestId}`);
    if (!this.explained.has(`${namespace} ${requestId}`)) throw new FnError('call-not-found', 'Never heard of it.');
    return {
      call: { id: requestId, t: 1, gateway: 'g', namespace, name: 'hello', method: 'GET', path: '/', status: 200, totalMs: 1 },
      phases: [],
      temperature: 'warm',
      fault: 'none',
      summary: 'It was answered.',
      advice: [],
      instance: null,
      logs: [],
      dropped: 0,
      others: 0,
    };
  }

  async shutdown(): Promise<void> {
    this.#call('shutdown');
  }
}
