/** One run: a controller in a process of its own, the traffic in this one. */
import { fork, type ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { sleep } from '#kit/clock.ts';
import type { Command, StartJob } from './controller.ts';
import type { Snapshot } from './gateway.ts';
import type { Adoption, ControllerFigures } from './platform.ts';
import { loadFor, zipfShares } from './random.ts';
import type { Shape } from './shape.ts';
import { SimTraffic, type TrafficFigures } from './traffic.ts';

/** Longest wait for the controller's process to answer, ms. */
const ANSWER_TIMEOUT_MS = 180_000;

export interface Reconnect {
  /** One gateway comes back while all goes on. */
  one: Snapshot;
  /** All come back at once: until the last has been told all. */
  allMs: number;
}

export interface RunResult {
  shape: Shape;
  /** That the model asked for. */
  load: { requestsPerSecond: number; lingerSeconds: number };
  controller: ControllerFigures;
  traffic: TrafficFigures;
  reconnect: Reconnect | null;
  /** With the time until all gateways had been told all by the new controller. */
  adoption: (Adoption & { gatewaysMs: number }) | null;
}

export interface RunOptions {
  /** Reconnects and a restart of the controller after the measurement. */
  upheavals: boolean;
  createsPerSecond?: number;
  /** Of the controller's process: `--cpu-prof`. */
  nodeFlags?: string[];
}

class ControllerProcess {
  readonly #child: ChildProcess;

  constructor(job: StartJob, nodeFlags: string[]) {
    this.#child = fork(join(import.meta.dirname, 'controller.ts'), [JSON.stringify(job)], { execArgv: nodeFlags });
  }

  /** The next answer. Rejects when the process ends instead. */
  answer<T>(): Promise<T> {
    return new Promise((resolve, reject) => {
      const end = (settle: () => void) => {
        clearTimeout(timer);
        this.#child.off('message', onMessage);
        this.#child.off('exit', onExit);
        settle();
      };
      const onMessage = (message: { value: T } | { error: string }) =>
        end(() => ('error' in message ? reject(new Error(message.error)) : resolve(message.value)));
      const onExit = (code: number | null) => end(() => reject(new Error(`the controller's process ended with ${code}`)));
      const timer = setTimeout(() => end(() => reject(new Error("the controller's process does not answer"))), ANSWER_TIMEOUT_MS);
      this.#child.once('message', onMessage);
      this.#child.once('exit', onExit);
    });
  }

  ask<T>(command: Command): Promise<T> {
    const answer = this.answer<T>();
    this.#child.send(command);
    return answer;
  }

  /** However it is. */
  async end(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    await this.ask('close').catch(() => null);
    const gone = new Promise((resolve) => this.#child.once('exit', resolve));
    if (this.#child.exitCode === null) await Promise.race([gone, sleep(10_000).then(() => this.#child.kill('SIGKILL'))]);
  }
}

export async function simulate(shape: Shape, { upheavals, createsPerSecond, nodeFlags = [] }: RunOptions): Promise<RunResult> {
  const load = loadFor(zipfShares(shape.functions, shape.skew), shape.coldPerSecond, shape.instances);
  const job = { shape, lingerSeconds: load.lingerSeconds, createsPerSecond: createsPerSecond ?? null };
  const controller = new ControllerProcess(job, nodeFlags);
  let traffic: SimTraffic | null = null;
  try {
    const path = await controller.answer<string>();
    traffic = new SimTraffic(shape, load.requestsPerSecond, path);
    await traffic.connect();
    traffic.start();
    await sleep(shape.warmUpSeconds * 1_000);
    await controller.ask('begin');
    traffic.begin();
    await sleep(shape.seconds * 1_000);
    const trafficFigures = traffic.end();
    const controllerFigures = await controller.ask<ControllerFigures>('end');
    const result: RunResult = { shape, load, controller: controllerFigures, traffic: trafficFigures, reconnect: null, adoption: null };
    if (upheavals) {
      result.reconnect = await reconnect(traffic);
      await sleep(2_000);
      result.adoption = await restart(traffic, controller);
    }
    return result;
  } finally {
    traffic?.close();
    await controller.end();
  }
}

async function reconnect(traffic: SimTraffic): Promise<Reconnect> {
  const first = traffic.gateways[0]!;
  await first.reconnect();
  const one = first.snapshot!;
  await sleep(1_000);
  const begun = performance.now();
  await Promise.all(traffic.gateways.map((gateway) => gateway.reconnect()));
  return { one, allMs: performance.now() - begun };
}

async function restart(traffic: SimTraffic, controller: ControllerProcess): Promise<Adoption & { gatewaysMs: number }> {
  const begun = performance.now();
  const welcomed = Promise.all(traffic.gateways.map((gateway) => gateway.welcome())).then(() => performance.now() - begun);
  const adoption = await controller.ask<Adoption>('restart');
  return { ...adoption, gatewaysMs: await welcomed };
}
