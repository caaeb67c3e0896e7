/** Tells the engine room of instances that ended by themselves: each once, with its cause, none that were killed. */
import type Dockerode from 'dockerode';
import { sleep } from '#kit/clock.ts';
import type { Log } from '#kit/log.ts';
import { TAIL_BYTES, describeExit, exitSignal } from '../exit.ts';
import type { Exit } from '../types.ts';
import type { CgroupDirs } from './cgroup.ts';
import type { Engine } from './engine.ts';
import { messageOf } from './host.ts';
import type { Known } from './instance.ts';
import { framesText } from './logs.ts';
import { OomJudge, judge } from './verdict.ts';

/** Lines of stderr that are looked at for the reason of a crash. V8's report has some 40. */
const TAIL_LINES = 80;
/** What is shown of them where an instance ends while it starts, characters. */
const SHOWN_TAIL = 500;
/** Of a process that was killed, the engine is asked once more after this, ms, whether memory was the reason. */
const OOM_WORD_MS = 200;

export class Exits {
  readonly #log: Log;
  readonly #listeners: ((exit: Exit) => void)[] = [];
  #oom = new OomJudge(null);
  #engine: Engine | null = null;

  constructor(log: Log) {
    this.#log = log;
  }

  /** `parent` is the cgroup above all instances, where there is one. */
  async start(engine: Engine, parent: CgroupDirs | null): Promise<void> {
    this.#engine = engine;
    this.#oom = new OomJudge(parent);
    await this.#oom.look();
  }

  onExit(listener: (exit: Exit) => void): void {
    this.#listeners.push(listener);
  }

  /** Looks at the counters while an OOM is fresh. */
  sawOom(): void {
    this.#oom.look().catch((error: unknown) => this.#log.warn({ error: messageOf(error) }, 'the memory counters cannot be read'));
  }

  /**
   * Reports the end of a running instance, unless it is killed while the cause is found out.
   * `whileAway`: found by comparing lists, after the engine could not be followed. Never throws.
   */
  async ended(known: Known, exitCode: number | null, whileAway: boolean): Promise<void> {
    known.phase = 'ended';
    const exit = await this.#verdict(known, exitCode, whileAway).catch((error: unknown): Omit<Exit, 'id'> => {
      this.#log.warn({ instance: known.id, error: messageOf(error) }, 'why an instance ended cannot be told');
      return { cause: 'lost', detail: describeExit(exitCode) };
    });
    if (known.phase !== 'ended') return;
    for (const listener of this.#listeners) {
      try {
        listener({ id: known.id, ...exit });
      } catch (error) {
        this.#log.error({ instance: known.id, error: messageOf(error) }, 'a listener failed on the end of an instance');
      }
    }
  }

  /** Why a container does not run that was just started, in words. Null: the engine does not have it any more. */
  async whyNotRunning(inspected: Dockerode.ContainerInspectInfo | null): Promise<string> {
    if (!inspected) return 'the container vanished while it started';
    const tail = (await this.#stderrTail(inspected.Id)).trim().slice(-SHOWN_TAIL);
    return `the instance ended while it started: ${describeExit(inspected.State.ExitCode)}${tail === '' ? '' : `; it said: ${tail}`}`;
  }

  /** The end of what a container wrote to stderr. */
  async #stderrTail(container: string): Promise<string> {
    if (!this.#engine) throw new Error('the driver is not started');
    return framesText(await this.#engine.stderrTail(container, TAIL_LINES)).slice(-TAIL_BYTES);
  }

  async #verdict(known: Known, exitCode: number | null, whileAway: boolean): Promise<Omit<Exit, 'id'>> {
    if (!this.#engine) throw new Error('the driver is not started');
    let inspected = await this.#engine.inspect(known.container);
    if (inspected && !inspected.State.OOMKilled && exitSignal(exitCode ?? inspected.State.ExitCode) === 'SIGKILL') {
      // The engine hears of an end and of an OOM on two ways, and of the end first now and then.
      await sleep(OOM_WORD_MS);
      inspected = await this.#engine.inspect(known.container);
    }
    if (!inspected) return { cause: 'lost', detail: 'the container was removed from outside' };
    return judge(
      {
        exitCode: exitCode ?? inspected.State.ExitCode,
        oomKilled: inspected.State.OOMKilled,
        whileAway,
        stderrTail: () => this.#stderrTail(known.container),
      },
      this.#oom,
    );
  }
}
