/**
 * Instances as plain processes, for a first look without a container engine. Node's own --permission
 * holds those of Node, nothing the others: no limits by the kernel, no network of their own. The
 * features say so.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { chownSync, realpathSync } from 'node:fs';
import { chmod, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { sleep } from '#kit/clock.ts';
import type { Log } from '#kit/log.ts';
import type { HomePaths } from '#kit/paths.ts';
import { TAIL_BYTES, describeExit, isHeapExhausted } from '../exit.ts';
import { inParallel } from '../parallel.ts';
import type {
  CreateSpec,
  Driver,
  DriverFeatures,
  DriverInstance,
  Exit,
  HostsCheck,
  ImageStore,
  LogChunk,
  SpecialiseSpec,
  Usage,
} from '../types.ts';
import { Workspace } from '../workspace.ts';
import { processStart } from './identity.ts';
import { ProcessOutput } from './output.ts';
import { ProcessRuntimes, type ProcessRuntime } from './runtimes.ts';
import { SessionUsage } from './usage.ts';

/** How often processes that are not our children are looked at, and outputs are kept within their cap, ms. */
const WATCH_INTERVAL_MS = 250;
const ROTATE_INTERVAL_MS = 1_000;
/** Longest time from SIGKILL to the end, and the pause between looks, ms. */
const KILL_TIMEOUT_MS = 10_000;
const KILL_POLL_MS = 10;
/** Processes killed at a time. */
const PARALLEL = 8;
/** As root, instances run as this user. */
const INSTANCE_UID = 65_532;

const NOTES = [
  'The process driver is for a first look: functions run as plain processes, those of Node held by its --permission alone.',
  'Memory (but for the JavaScript heap), CPU, processes and disk are not limited: one function can take all of the machine.',
  'Functions can dial anything that this machine can: the host’s own services and private networks too, whatever their egress says.',
  'Functions run as a user of this machine: they can signal its processes and open its sockets. As root that is a user of their own, otherwise you: then they can use the control API too.',
  'For isolation install Docker (Debian, Ubuntu: sudo apt-get install docker.io) and start fn again with --driver docker.',
];

export interface ProcessDriverOptions {
  paths: HomePaths;
  /** How each runtime is started; `{ node: '/…/runtime-images/node/shim.mjs' }` for one that this Node runs. */
  shims: Readonly<Record<string, string | ProcessRuntime>>;
  /** Added to the flags of Node, e.g. `['--inspect=127.0.0.1:9229']`. */
  nodeFlags?: readonly string[];
  /** The platform's. */
  version: string;
  log: Log;
  /** The Node to run; default: this one. */
  execPath?: string;
}

/** What is kept of a process beside its folder, out of its reach: enough to adopt it. */
const ProcessRecord = z.object({
  id: z.string(),
  runtime: z.string(),
  memoryClassMib: z.number(),
  network: z.enum(['none', 'egress']),
  pid: z.number().int().positive(),
  /** As processStart() gives it. */
  start: z.string(),
  startedAt: z.string(),
});
type ProcessRecord = z.infer<typeof ProcessRecord>;
const RECORD = 'process';

interface Known {
  record: ProcessRecord;
  /** `ended`: reported, or found dead when it was adopted. `killing`: its end is nobody's news. */
  phase: 'running' | 'ended' | 'killing';
  /** Null where an earlier controller started it. */
  child: ChildProcess | null;
  /** The most CPU that it was ever said to have used, µs. */
  cpuUs: number;
}

/** Makes the driver; nothing happens before start(). */
export function createProcessDriver(options: ProcessDriverOptions): Driver {
  return new ProcessDriver(options);
}

class ProcessDriver implements Driver {
  readonly name = 'process';
  readonly images: ImageStore | null = null;
  readonly usageSource = 'processes';
  readonly features: DriverFeatures;
  readonly #options: ProcessDriverOptions;
  readonly #workspace: Workspace;
  readonly #known = new Map<string, Known>();
  readonly #kills = new Map<string, Promise<void>>();
  readonly #listeners: ((exit: Exit) => void)[] = [];
  readonly #runtimes: ProcessRuntimes;
  readonly #usage = new SessionUsage();
  readonly #uid: number | null;
  #timers: NodeJS.Timeout[] = [];
  #closed = false;

  constructor(options: ProcessDriverOptions) {
    this.#options = options;
    this.#uid = process.getuid?.() === 0 ? INSTANCE_UID : null;
    this.#runtimes = new ProcessRuntimes({
      runtimes: options.shims,
      nodePath: realpathSync(options.execPath ?? process.execPath),
      nodeFlags: options.nodeFlags ?? [],
      uid: this.#uid,
      lentDir: join(options.paths.runDir, 'shims'),
    });
    this.#workspace = new Workspace(options.paths, { processUid: this.#uid });
    const { unheld } = this.#runtimes;
    const notes = [...NOTES, ...(unheld.length === 0 ? [] : [`Not even --permission holds functions of ${unheld.join(', ')}.`])];
    this.features = { freeze: false, limits: false, parentCgroup: false, egress: 'unfiltered', sandboxes: [], notes };
  }

  async start(): Promise<void> {
    this.#closed = false;
    await this.#workspace.start();
    await this.#runtimes.lend();
    await this.list();
    for (const id of await this.#workspace.ids()) if (!this.#known.has(id)) await this.#workspace.remove(id);
    this.#every(WATCH_INTERVAL_MS, () => this.#watchAdopted());
    this.#every(ROTATE_INTERVAL_MS, () => this.#rotate());
  }

  async close(): Promise<void> {
    this.#runtimes.close();
    for (const timer of this.#timers) clearInterval(timer);
    this.#timers = [];
    this.#closed = true;
    await Promise.resolve();
  }

  async destroyAll(): Promise<void> {
    const instances = await this.list();
    await inParallel(instances, PARALLEL, (instance) => this.kill(instance.id));
    await this.close();
    await this.#runtimes.removeLent();
    await this.#workspace.destroy();
  }

  runtimes(): Promise<{ name: string; version: string }[]> {
    return this.#runtimes.list();
  }

  async list(): Promise<DriverInstance[]> {
    const ids = new Set(await this.#workspace.ids());
    // Another controller of this home removed it.
    for (const id of this.#known.keys()) if (!ids.has(id)) this.#known.delete(id);
    for (const id of ids) {
      if (this.#known.has(id)) continue;
      const record = ProcessRecord.safeParse(await this.#workspace.readNote(id, RECORD));
      // Without a record it is being made just now, or a controller died making it: start() tidies up.
      if (!record.success || record.data.id !== id || this.#known.has(id)) continue;
      this.#known.set(id, { record: record.data, phase: isAlive(record.data) ? 'running' : 'ended', child: null, cpuUs: 0 });
    }
    return [...this.#known.values()].map((known) => this.#view(known.record));
  }

  async create(spec: CreateSpec, signal: AbortSignal): Promise<DriverInstance> {
    signal.throwIfAborted();
    if (this.#known.has(spec.id)) throw new Error(`the instance ${spec.id} is there already`);
    try {
      await this.#workspace.prepare(spec.id);
      const tmp = join(this.#workspace.dir(spec.id), 'tmp');
      await mkdir(tmp);
      await chmod(tmp, 0o700);
      if (this.#uid !== null) chownSync(tmp, this.#uid, this.#uid);
      signal.throwIfAborted();
      await this.#spawn(spec, realpathSync(tmp));
      signal.throwIfAborted();
      return this.#view(this.#known.get(spec.id)!.record);
    } catch (error) {
      await this.kill(spec.id);
      throw error;
    }
  }

  /** Nothing is filtered here, whatever a list says. */
  checkHosts(): Promise<HostsCheck> {
    return Promise.resolve({ refused: [], notes: [] });
  }

  async seal(id: string): Promise<void> {
    this.#running(id);
    await this.#workspace.seal(id);
  }

  async specialise(id: string, spec: SpecialiseSpec): Promise<{ code: string }> {
    this.#running(id);
    await this.#workspace.place(id, spec.bundleDir);
    return { code: this.#workspace.codeDir(id) };
  }

  freeze(): Promise<void> {
    return Promise.reject(new Error('the process driver does not freeze'));
  }

  thaw(): Promise<void> {
    return Promise.reject(new Error('the process driver does not freeze'));
  }

  async usage(id: string): Promise<Usage | null> {
    const known = this.#known.get(id);
    if (known === undefined || !isAlive(known.record)) return null;
    // The process leads a session of its own: spawn's `detached`.
    const used = await this.#usage.read(known.record.pid);
    if (used === null || !isAlive(known.record)) return null;
    known.cpuUs = Math.max(known.cpuUs, used.cpuUs);
    return { ...used, cpuUs: known.cpuUs, counter: known.record.start };
  }

  kill(id: string): Promise<void> {
    const running = this.#kills.get(id);
    if (running) return running;
    const killing = this.#kill(id).finally(() => this.#kills.delete(id));
    this.#kills.set(id, killing);
    return killing;
  }

  async *logs(id: string, after: string | null, signal: AbortSignal): AsyncIterable<LogChunk> {
    const known = this.#known.get(id);
    if (!known) return;
    const hasEnded = () => this.#known.get(id) !== known || !isAlive(known.record);
    yield* this.#output(id).follow(after, hasEnded, signal);
  }

  /** Nobody takes a process away but by killing it. */
  onLeaving(): void {}

  onExit(listener: (exit: Exit) => void): void {
    this.#listeners.push(listener);
  }

  async #spawn(spec: CreateSpec, tmp: string): Promise<void> {
    const sock = realpathSync(this.#workspace.sockDir(spec.id));
    const code = realpathSync(this.#workspace.codeDir(spec.id));
    const start = this.#runtimes.start(spec.runtime, spec.memoryClassMib, [sock, code, tmp], [sock, tmp]);
    const output = this.#output(spec.id).openForProcess();
    try {
      const child = spawn(start.command, start.args, {
        cwd: tmp,
        // A group of its own, so that it outlives this controller and is killed with all it started.
        detached: true,
        argv0: start.argv0,
        stdio: ['ignore', output.stdout, output.stderr, ...start.extra],
        env: {
          PATH: '/usr/local/bin:/usr/bin:/bin',
          HOME: tmp,
          TMPDIR: tmp,
          FN_INSTANCE: spec.id,
          FN_NONCE: spec.nonce,
          FN_SOCKET: this.#workspace.socket(spec.id),
        },
        ...(this.#uid === null ? {} : { uid: this.#uid, gid: this.#uid }),
      });
      child.unref();
      await this.#remember(spec, child);
    } finally {
      output.close();
    }
  }

  /** In the tick of its start, so that a controller that dies leaves no process without a record. */
  async #remember(spec: CreateSpec, child: ChildProcess): Promise<void> {
    const { pid } = child;
    if (pid === undefined) {
      await new Promise((_resolve, reject) => child.once('error', reject));
      return;
    }
    const { id, runtime, memoryClassMib, network } = spec;
    const record = { id, runtime, memoryClassMib, network, pid, start: processStart(pid) ?? 'ended', startedAt: new Date().toISOString() };
    const known: Known = { record, phase: 'running', child, cpuUs: 0 };
    this.#known.set(id, known);
    child.on('exit', (code, signal) => void this.#ended(known, code, signal));
    child.on('error', (error) =>
      this.#options.log.warn({ instance: id, error: error.message }, 'a process of an instance reports an error'),
    );
    this.#workspace.writeNoteSync(id, RECORD, record);
  }

  #view({ id, runtime, memoryClassMib, network, pid, startedAt, ...record }: ProcessRecord): DriverInstance {
    const running = isAlive({ pid, ...record });
    return {
      id,
      runtime,
      memoryClassMib,
      network,
      image: null,
      sandbox: null,
      address: { kind: 'unix', path: this.#workspace.socket(id) },
      startedAt,
      running,
      handle: `process ${pid}`,
      ...(running ? { pid } : {}),
    };
  }

  #output(id: string): ProcessOutput {
    return new ProcessOutput(this.#workspace.dir(id));
  }

  #running(id: string): Known {
    const known = this.#known.get(id);
    if (known?.phase !== 'running') throw new Error(`the instance ${id} is not running`);
    return known;
  }

  /** `code` and `signal` are null where an earlier controller was the parent: nobody knows them then. */
  async #ended(known: Known, code: number | null, signal: NodeJS.Signals | null): Promise<void> {
    if (known.phase !== 'running') return;
    known.phase = 'ended';
    // What ends now is found dead by whoever watches next.
    if (this.#closed) return;
    const { id } = known.record;
    const unknown = code === null && signal === null;
    const tail = await this.#output(id)
      .stderrTail(TAIL_BYTES)
      .catch(() => ''); // The folder went away: so did the reason.
    // Killed while its output was read: not an end by itself any more.
    if (this.#known.get(id)?.phase !== 'ended') return;
    const oom = isHeapExhausted(tail, code, unknown ? 'SIGABRT' : signal);
    const detail = oom ? 'the JavaScript heap was full' : unknown ? 'ended; how, its parent alone knew' : describeExit(code, signal);
    for (const listener of this.#listeners) listener({ id, cause: oom ? 'oom' : 'exit', detail });
  }

  async #kill(id: string): Promise<void> {
    const known = this.#known.get(id);
    if (known) {
      known.phase = 'killing';
      await killProcess(known.record);
    }
    this.#known.delete(id);
    await this.#workspace.remove(id);
  }

  #every(ms: number, run: () => Promise<void>): void {
    const timer = setInterval(() => {
      run().catch((error: unknown) =>
        this.#options.log.warn({ error: error instanceof Error ? error.message : String(error) }, 'looking after processes failed'),
      );
    }, ms);
    timer.unref();
    this.#timers.push(timer);
  }

  async #watchAdopted(): Promise<void> {
    for (const known of this.#known.values()) {
      if (known.child === null && known.phase === 'running' && !isAlive(known.record)) await this.#ended(known, null, null);
    }
  }

  async #rotate(): Promise<void> {
    for (const id of this.#known.keys()) await this.#output(id).rotate();
  }
}

function isAlive(record: Pick<ProcessRecord, 'pid' | 'start'>): boolean {
  return processStart(record.pid) === record.start;
}

/** SIGKILL to the process and all of its group; resolves when it has ended. */
async function killProcess(record: ProcessRecord): Promise<void> {
  if (!isAlive(record)) return;
  try {
    process.kill(-record.pid, 'SIGKILL');
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error;
  }
  for (const start = performance.now(); isAlive(record); await sleep(KILL_POLL_MS)) {
    if (performance.now() - start > KILL_TIMEOUT_MS)
      throw new Error(`process ${record.pid} did not end within ${KILL_TIMEOUT_MS / 1_000} s`);
  }
}
