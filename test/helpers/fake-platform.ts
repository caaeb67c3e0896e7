/** A Platform in memory, for tests of what talks to one. It does what the port says, and no more. */
import type { DeployRequest, DeployResponse, LogEntry, PlatformStatus } from '#contract/api.ts';
import { FnError } from '#contract/errors.ts';
import type { FunctionView, Revision } from '#contract/function.ts';
import { functionPath, revisionKey } from '#contract/names.ts';
import type { Platform } from '../../controller/api/platform.ts';

export class FakePlatform implements Platform {
  readonly calls: string[] = [];
  readonly functions = new Map<string, Revision[]>();
  readonly logLines: LogEntry[] = [];
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

  #find(namespace: string, name: string): Revision[] {
    const found = this.functions.get(`${namespace}/${name}`);
    if (found === undefined) throw new FnError('function-not-found', `There is no function ${name}.`);
    return found;
  }

  async status(): Promise<PlatformStatus> {
    this.#call('status');
    return {
      version: '0.0.0',
      home: '/home/fn',
      gateway: { pid: 1, url: 'http://localhost:8080', connected: 1 },
      controller: { pid: 2, url: 'unix:/run/s', term: 1, uptimeSeconds: 1 },
      driver: 'fake',
      features: { freeze: false, exactLimits: false, parentCgroup: false, egress: 'none', notes: [] },
      budget: { memoryMib: 1_024, memoryUsedMib: 0, cpu: 2, cpuUsed: 0 },
      runtimes: [{ name: 'node', version: '24' }],
      functions: [],
      instances: [],
    };
  }

  async deploy(namespace: string, name: string, request: DeployRequest, signal: AbortSignal): Promise<DeployResponse> {
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
    const revisions = this.functions.get(`${namespace}/${name}`) ?? [];
    const number = revisions.length + 1;
    const revision: Revision = {
      key: revisionKey(namespace, name, number),
      namespace,
      name,
      number,
      bundle: request.bundle,
      entry: request.entry,
      settings: { ...request.settings, concurrency: request.settings.concurrency ?? 50, egress: request.settings.egress ?? 'none' },
      form: 'fetch',
      createdAt: 1,
    };
    this.functions.set(`${namespace}/${name}`, [revision, ...revisions]);
    return {
      url: `http://localhost:8080${functionPath(namespace, name)}`,
      revision,
      timing: { startMs: 1, initMs: 2, routeMs: 3 },
      start: 'pooled',
      notes: [],
    };
  }

  async describe(namespace: string, name: string): Promise<FunctionView> {
    this.#call(`describe ${namespace}/${name}`);
    const revisions = this.#find(namespace, name);
    return {
      namespace,
      name,
      url: `http://localhost:8080${functionPath(namespace, name)}`,
      revision: revisions[0]!,
      revisions: revisions.map(({ number }) => number),
      instances: 0,
    };
  }

  async list(namespace?: string): Promise<FunctionView[]> {
    this.#call(`list ${namespace ?? '*'}`);
    const all = [...this.functions.values()].map(([newest]) => newest!);
    return Promise.all(
      all.filter((each) => namespace === undefined || each.namespace === namespace).map((each) => this.describe(each.namespace, each.name)),
    );
  }

  async revisions(namespace: string, name: string): Promise<Revision[]> {
    this.#call(`revisions ${namespace}/${name}`);
    return this.#find(namespace, name);
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

  async *logs(
    namespace: string,
    name: string,
    { follow, since = 0, limit = Infinity }: { follow: boolean; since?: number; limit?: number },
    signal: AbortSignal,
  ): AsyncGenerator<LogEntry> {
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

  async shutdown(): Promise<void> {
    this.#call('shutdown');
  }
}
