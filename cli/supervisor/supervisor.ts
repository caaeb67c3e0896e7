/**
 * The supervisor: holds the public socket, runs controller and gateway as two processes, starts them
 * again when they die, and ends everything in order. It serves no request and decides nothing else,
 * so there is little in it that could fail.
 */
import { closeSync, existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Clock } from '#kit/clock.ts';
import { systemClock } from '#kit/clock.ts';
import { createLog } from '#kit/log.ts';
import type { Log, LogLevel } from '#kit/log.ts';
import type { HomePaths } from '#kit/paths.ts';
import { homePaths } from '#kit/paths.ts';
import { chooseStoreUrl } from '#kit/store-url.ts';
import { CliError, EXIT } from '../errors.ts';
import type { Reply } from '../http.ts';
import { endProcess, identify } from '../process-identity.ts';
import type { SupervisorState } from '../state.ts';
import { readState, removeState, writeState } from '../state.ts';
import { version } from '../version.ts';
import { askGateway, askLeader, askShutdown, askStatus, untilAnswers } from './answers.ts';
import { Child } from './child.ts';
import { acquireLock } from './lock.ts';
import { kubernetesSettings } from './kubernetes.ts';
import { lastLines, lineInWords, logSize, logTrouble, openLog, rotate } from './log-files.ts';
import type { Report, SupervisorOptions } from './options.ts';
import { metricsEnv, settingsEnv, startedWith } from './options.ts';
import type { Programs } from './programs.ts';
import { controllerEnv, gatewayEnv, preparePrograms, spawnController, spawnGateway } from './programs.ts';
import type { PublicSocket } from './public-socket.ts';
import { openPublicSocket } from './public-socket.ts';
import { GATEWAY_GID, GATEWAY_UID, makeRunDir, removeRunDir } from './run-dir.ts';
import { prepareRuntimes } from './runtimes.ts';

/** Requests in flight may take so long to end when fn goes down. */
const GATEWAY_GRACE_MS = 33_000;
/** Ending every instance: with Docker some 50 ms each. */
const CONTROLLER_GRACE_MS = 30_000;
const CLEANUP_TIMEOUT_MS = 60_000;
/** An orphan of a supervisor that was killed. Its instances live on and are adopted. */
const ORPHAN_GRACE_MS = 5_000;
const LOG_CHECK_MS = 60_000;
/** Any time will do: what counts is that there is a timer. */
const HOLD_MS = 60_000;
/** A state that could not be written is written again after so long. */
const SAVE_AGAIN_MS = 1_000;
/** A controller that is started again waits so long for its store: it would only be started again. */
const STORE_PATIENCE_SECONDS = 86_400;

export interface SupervisorSurroundings {
  env: NodeJS.ProcessEnv;
  report: Report;
  clock?: Clock;
  /** Instead of the real programs, for tests. */
  programs?: Pick<Programs, 'controller' | 'gateway'>;
  logLevel?: LogLevel;
}

/** The path of the lock that a supervisor holds while it lives. */
export const lockPath = (paths: HomePaths): string => join(paths.home, 'supervisor.lock');

export class Supervisor {
  readonly #options: SupervisorOptions;
  readonly #env: NodeJS.ProcessEnv;
  readonly #report: Report;
  readonly #clock: Clock;
  readonly #asRoot = process.getuid?.() === 0;
  readonly #substitutes: SupervisorSurroundings['programs'];
  readonly #paths: HomePaths;
  readonly #log: Log;
  #release: (() => void) | null = null;
  #socket: PublicSocket | null = null;
  #tlsSocket: PublicSocket | null = null;
  #programs: Programs | null = null;
  #state: SupervisorState | null = null;
  #gateways: Child[] = [];
  #controllers: Child[] = [];
  #controllerEnv: NodeJS.ProcessEnv = {};
  #logFds: number[] = [];
  /** Sizes of the logs when what writes them was started last, by its name: before that stands what earlier ones said. */
  readonly #logsFrom = new Map<string, number>();
  /** Instances of a supervisor that was killed may be in it: then it is not ours to remove before a controller has looked. */
  #runDirWasThere = false;
  #cancelRotation: () => void = () => {};
  /** Keeps this process: while all others wait for their next start there is nothing else, sockets that only they accept on least of all. */
  #holding: NodeJS.Timeout | null = null;
  #cancelSave: () => void = () => {};
  #stopping: Promise<void> | null = null;
  /** Rejects while starting when a child dies: there is nothing to wait for then. */
  #startFailure = Promise.withResolvers<never>();

  constructor(options: SupervisorOptions, { env, report, clock = systemClock, programs, logLevel = 'info' }: SupervisorSurroundings) {
    this.#options = options;
    this.#env = env;
    this.#report = report;
    this.#clock = clock;
    this.#substitutes = programs;
    this.#paths = homePaths(options.home);
    this.#log = createLog('supervisor', logLevel);
    // Whoever waits gets it; where nobody does, it is no unhandled rejection.
    this.#startFailure.promise.catch(() => {});
  }

  /** Starts everything; resolves when both processes answer. Throws CliError, with nothing left behind. */
  async start(): Promise<SupervisorState> {
    this.#release = acquireLock(lockPath(this.#paths));
    if (this.#release === null) throw new CliError(`another fn is starting or running in ${this.#paths.home}`, { hint: 'See fn status.' });
    this.#holding = setInterval(() => {}, HOLD_MS);
    try {
      return await this.#start();
    } catch (error) {
      await this.stop().catch((second: unknown) => {
        // Why it did not start is what the person must read.
        this.#log.error({ error: second instanceof Error ? second.message : String(second) }, 'not everything could be ended');
      });
      throw error;
    }
  }

  async #start(): Promise<SupervisorState> {
    await this.#takeOver();
    this.#runDirWasThere = existsSync(this.#paths.runDir);
    makeRunDir(this.#paths, this.#asRoot);
    this.#socket = openPublicSocket(this.#options.host, this.#options.port, 'port', this.#options.command);
    const { tls } = this.#options;
    if (tls !== undefined) this.#tlsSocket = openPublicSocket(tls.host, tls.port, 'tls-listen');
    const runtimes = await prepareRuntimes(this.#options, this.#env, this.#report);
    if (this.#stopping !== null) throw new CliError('stopped while starting', { exitCode: EXIT.interrupted });
    this.#programs = { ...preparePrograms(this.#paths, this.#asRoot), ...this.#substitutes };
    const { port } = this.#socket;
    const url = this.#env.FN_PUBLIC_URL ?? `http://${reachable(this.#options.host)}:${port}`;
    const tlsUrl = tls === undefined ? undefined : `https://${reachable(tls.host)}:${this.#tlsSocket!.port}`;
    const kubernetes: { kubernetes?: string } =
      runtimes.driver === 'kubernetes' ? { kubernetes: kubernetesSettings(this.#env.FN_KUBERNETES, this.#paths) } : {};
    this.#state = {
      ...identify(process.pid)!,
      phase: 'starting',
      version: version(),
      host: this.#options.host,
      port,
      url,
      ...(tlsUrl === undefined ? {} : { tlsUrl }),
      driver: runtimes.driver,
      started: { ...startedWith(this.#options), ...kubernetes },
      children: {},
    };
    writeState(this.#paths, this.#state);
    this.#spawnAll(url, {
      ...runtimes.env,
      ...(kubernetes.kubernetes === undefined ? {} : { FN_KUBERNETES: kubernetes.kubernetes }),
      ...(tlsUrl === undefined ? {} : { FN_TLS_URL: tlsUrl }),
    });
    const gateway = new URL(`http://${reachable(this.#options.host)}:${port}`);
    const answers = [
      this.#untilAnswers('controller', () => askStatus(this.#paths)),
      this.#untilAnswers('gateway', () => askGateway(gateway)),
    ];
    await Promise.race([this.#startFailure.promise, Promise.all(answers)]);
    this.#update({ phase: 'ready' });
    this.#report({ type: 'ready', url, ...(tlsUrl === undefined ? {} : { tlsUrl }), driver: runtimes.driver, pid: process.pid });
    this.#watchLogs();
    return this.#state;
  }

  /** Ends what a supervisor that was killed left running; the instances stay for the new controller. */
  async #takeOver(): Promise<void> {
    const old = readState(this.#paths);
    if (old === null) return;
    const orphans = Object.entries(old.children).filter(([, child]) => child !== undefined);
    if (orphans.length > 0) this.#log.warn({ orphans: Object.fromEntries(orphans) }, 'the last supervisor was killed: taking over');
    await Promise.all(orphans.map(([, child]) => endProcess(child, ORPHAN_GRACE_MS)));
    removeState(this.#paths);
  }

  #spawnAll(url: string, runtimeEnv: Record<string, string>): void {
    const { gateways = 1, controllers = 1 } = this.#options;
    const metrics = metricsEnv(this.#options.metrics ?? this.#env.FN_METRICS_LISTEN, gateways);
    const programs = this.#programs!;
    this.#controllerEnv = this.#envOfControllers(url, { ...runtimeEnv, ...metrics.controller }, controllers);
    const sockets = { listenFd: this.#socket!.fd, tlsListenFd: this.#tlsSocket?.fd ?? null };
    for (const name of namesOf('controller', controllers)) {
      const log = this.#openLog(name);
      this.#controllers.push(this.#child(name, () => spawnController(programs, this.#envOfOneController(), log)));
    }
    for (const [index, name] of namesOf('gateway', gateways).entries()) {
      const log = this.#openLog(name);
      const env = gatewayEnv(this.#env, {
        FN_LINK_SOCKET: this.#paths.linkSocket,
        FN_EVENTS_SOCKET: this.#paths.eventsSocket,
        FN_PUBLIC_URL: url,
        FN_GATEWAY_ID: name.replace('gateway', `gw-${this.#paths.homeId}`),
        ...metrics.gateways[index],
      });
      this.#gateways.push(this.#child(name, () => spawnGateway(programs, env, log, sockets)));
    }
    for (const child of [...this.#controllers, ...this.#gateways]) child.start();
  }

  #envOfControllers(url: string, more: Record<string, string>, controllers: number): NodeJS.ProcessEnv {
    const ids: Record<string, string> = this.#asRoot ? { FN_GATEWAY_UID: String(GATEWAY_UID), FN_GATEWAY_GID: String(GATEWAY_GID) } : {};
    return controllerEnv(this.#env, {
      FN_HOME: this.#paths.home,
      FN_PUBLIC_URL: url,
      FN_STORE: chooseStoreUrl(this.#options.store, this.#env.FN_STORE || undefined),
      FN_STANDBY: controllers > 1 ? '1' : '0',
      ...more,
      ...ids,
      ...settingsEnv(this.#options),
    });
  }

  /** One that is started again waits for a store that is away; at the first start, the person is told at once. */
  #envOfOneController(): NodeJS.ProcessEnv {
    if (this.#state?.phase === 'starting') return this.#controllerEnv;
    return { ...this.#controllerEnv, FN_STORE_WAIT_SECONDS: String(STORE_PATIENCE_SECONDS) };
  }

  #openLog(name: string): number {
    const fd = openLog(this.#paths.logs, name);
    this.#logFds.push(fd);
    return fd;
  }

  #child(name: string, spawn: () => ReturnType<typeof spawnController>): Child {
    return new Child({
      name,
      spawn: () => {
        this.#logsFrom.set(name, logSize(this.#paths.logs, name));
        return spawn();
      },
      log: this.#log,
      clock: this.#clock,
      onStart: (identity) => {
        if (identity !== null) this.#update({ children: { ...this.#state!.children, [name]: identity } });
      },
      onDeath: (detail) => {
        if (this.#state?.phase !== 'starting') return this.#stopping === null;
        const lines = this.#lastLines(name).map(lineInWords);
        // Whoever said nothing may have had no room to say it.
        const trouble = lines.length === 0 ? logTrouble(this.#paths.logs, name) : null;
        this.#startFailure.reject(
          new CliError(`the ${name} did not start: ${detail}`, {
            details: trouble === null ? lines : [`its log cannot be written: ${trouble}`],
            hint:
              trouble === null
                ? `All of its log: ${join(this.#paths.logs, `${name}.log`)}`
                : `Make room on the disk of ${this.#paths.logs}, then start it again.`,
          }),
        );
        return false;
      },
    });
  }

  /** What it said since it was started last. */
  #lastLines(name: string): string[] {
    return lastLines(this.#paths.logs, name, 12, this.#logsFrom.get(name) ?? 0);
  }

  #update(change: Partial<SupervisorState>): void {
    this.#state = { ...this.#state!, ...change };
    this.#save();
  }

  /** A disk that is full must not end what watches over all the others: it is written when there is room again. */
  #save(): void {
    this.#cancelSave();
    try {
      writeState(this.#paths, this.#state!);
    } catch (error) {
      this.#log.error({ error: error instanceof Error ? error.message : String(error) }, 'the state of the platform cannot be written now');
      this.#cancelSave = this.#clock.after(SAVE_AGAIN_MS, () => this.#save());
    }
  }

  #untilAnswers(name: string, probe: () => Promise<Reply>): Promise<void> {
    const stopped = () => this.#stopping !== null;
    return untilAnswers(name, probe, { clock: this.#clock, stopped, lastLines: () => this.#lastLines(name) });
  }

  get #children(): Child[] {
    return [...this.#controllers, ...this.#gateways];
  }

  #watchLogs(): void {
    const check = () => {
      for (const name of [...this.#children.map((child) => child.name), 'supervisor']) rotate(this.#paths.logs, name);
      this.#cancelRotation = this.#clock.after(LOG_CHECK_MS, check);
    };
    check();
  }

  /** Ends everything and leaves nothing behind but the home. Idempotent. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  async #stop(): Promise<void> {
    this.#cancelRotation();
    if (this.#state !== null) this.#update({ phase: 'stopping' });
    // First who asks for instances, then who has them.
    await Promise.all(this.#gateways.map((gateway) => gateway.stop(GATEWAY_GRACE_MS)));
    const failure = this.#controllers.length > 0 ? await failureOf(this.#stopControllers()) : null;
    // What is left is for the next start, or for fn down: neither must find a lock, nor this process.
    this.#socket?.close();
    this.#tlsSocket?.close();
    for (const fd of this.#logFds) closeSync(fd);
    if (this.#programs?.nodeFd != null) closeSync(this.#programs.nodeFd);
    this.#cancelSave();
    if (failure === null) {
      if (this.#controllers.length > 0 || !this.#runDirWasThere) removeRunDir(this.#paths, this.#asRoot);
      removeState(this.#paths);
    }
    this.#release?.();
    if (this.#holding !== null) clearInterval(this.#holding);
    if (failure !== null) throw failure.error;
  }

  /** The one that leads ends its instances; where it cannot be asked, another one is started for just that. */
  async #stopControllers(): Promise<void> {
    const leader = await this.#leading();
    // First who would take over.
    await Promise.all(this.#controllers.filter((one) => one !== leader).map((one) => one.stop(ORPHAN_GRACE_MS)));
    if (leader?.running && (await askShutdown(this.#paths, this.#log)) && (await leader.awaitEnd(CONTROLLER_GRACE_MS))) return;
    await leader?.stop(ORPHAN_GRACE_MS);
    await cleanUp(this.#programs!, this.#controllerEnv, this.#logFds[0]!);
  }

  async #leading(): Promise<Child | null> {
    if (this.#controllers.length === 1) return this.#controllers[0]!;
    const pid = await askLeader(this.#paths, this.#log);
    // One that does not run has no id, either.
    return pid === null ? null : (this.#controllers.find((one) => one.pid === pid) ?? null);
  }
}

/** Starts a controller that only destroys what instances and networks of this home there are. Throws CliError. */
export async function cleanUp(programs: Programs, env: NodeJS.ProcessEnv, logFd: number): Promise<void> {
  const child = spawnController(programs, env, logFd, ['--cleanup']);
  const timer = setTimeout(() => child.kill('SIGKILL'), CLEANUP_TIMEOUT_MS);
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', resolve);
  });
  clearTimeout(timer);
  if (code !== 0)
    throw new CliError('some instances could not be removed', { hint: 'See controller.log in the home’s logs folder, and fn doctor.' });
}

/** `gateway`, `gateway-2`, … */
const namesOf = (name: string, count: number): string[] =>
  Array.from({ length: count }, (_, index) => (index === 0 ? name : `${name}-${index + 1}`));

/** What it rejects with; null: it does not. */
const failureOf = (work: Promise<void>): Promise<{ error: unknown } | null> =>
  work.then(
    () => null,
    (error: unknown) => ({ error }),
  );

/** An address that can be dialled: of all interfaces, the loopback one. */
function reachable(host: string): string {
  if (host === '0.0.0.0') return '127.0.0.1';
  if (host === '::') return '[::1]';
  return host.includes(':') ? `[${host}]` : host;
}
