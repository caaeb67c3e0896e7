/**
 * Carries out what was decided about instances: create, claim, settle, thaw, kill. Each step moves
 * the world first and acts then; whatever comes back (or does not) ends in a state from which the
 * plan can go on. An instance about which there is any doubt is destroyed.
 */
import type { HandlerForm } from '#contract/function.ts';
import { sleep } from '#kit/clock.ts';
import { newInstanceId, newSecret } from '#kit/ids.ts';
import { revisionOf, type Instance, type PoolKey, type RevisionState } from '../core/world.ts';
import type { Exit } from '../driver/types.ts';
import { messageOf, type EngineContext, type GoneCause, type InstanceEvents } from './context.ts';
import { killForGood } from './kill.ts';
import { Settling } from './settling.ts';
import { newInstance, newStart, oldestTrace, type Start } from './start.ts';
import { claimOf, Specialising } from './specialising.ts';

/** How long an instance may take from its creation to its first health answer. */
const START_TIMEOUT_MS = 60_000;
/** How often a starting instance is asked whether it listens. */
const POLL_MS = 4;
/** Of two controllers that claimed an instance the one that does not lead has ended after this: several times the term of a lease, ms. */
const DISPUTED_MS = 30_000;
/**
 * Logs are read from their beginning, so it costs nothing to begin when the request that waited for the instance has been sent; to
 * begin at once would cost that request the engine's and our own time, ms.
 */
const FOLLOW_AFTER_MS = 50;
/** How often an adopted instance that was too busy to answer is asked again. */
const VERIFY_EVERY_MS = 1_000;

export class Lifecycle {
  readonly #context: EngineContext;
  readonly #events: InstanceEvents;
  /** Form that a revision's code turned out to have, at its first load. */
  readonly forms = new Map<string, HandlerForm>();
  /** Creates and specialisings by instance. */
  readonly #starts = new Map<string, Start>();
  readonly #settling: Settling;
  readonly #specialising: Specialising;
  /** Instances that have just become ready, and whose logs are read from a little later on. */
  readonly #unfollowed = new Map<string, () => void>();
  readonly #destroying = new Set<string>();
  readonly #working = new Set<Promise<void>>();
  /** Ends told of before the inventory was done: they may concern what it is about to adopt. */
  #untold: Exit[] | null = [];
  #ending = false;

  constructor(context: EngineContext, events: InstanceEvents) {
    this.#context = context;
    this.#events = events;
    this.#settling = new Settling({
      context,
      run: (what, work) => this.#run(what, work),
      destroy: (...what) => this.#destroy(...what),
    });
    this.#specialising = new Specialising({ context, forms: this.forms, run: (what, work) => this.#run(what, work) });
    context.driver.onExit((exit) => this.#exited(exit));
  }

  inventoryDone(): void {
    const untold = this.#untold ?? [];
    this.#untold = null;
    for (const exit of untold) this.#exited(exit);
  }

  /** The controller ends: nothing is created any more, and nothing tried for ever. Instances live on. */
  end(): void {
    this.#ending = true;
    for (const id of this.#unfollowed.keys()) this.#followNow(id);
    for (const [id, start] of this.#starts) {
      if (this.#context.world.instances.get(id)?.state.kind === 'creating') start.abort.abort(new Error('the controller ends'));
    }
  }

  /** Resolves when nothing that was begun is still under way. */
  async settled(): Promise<void> {
    while (this.#working.size > 0) await Promise.all(this.#working);
  }

  /** The same, or after so long. */
  async settledWithin(ms: number): Promise<void> {
    const { clock, log } = this.#context;
    let cancel = () => {};
    const late = new Promise<void>((resolve) => {
      cancel = clock.after(ms, () => {
        log.warn({ count: this.#working.size }, 'what was begun has not ended in time: the next controller finds it');
        resolve();
      });
    });
    await Promise.race([this.settled(), late]);
    cancel();
  }

  /** Runs a piece of work that handles its own errors; anything it throws all the same is a bug and is logged. */
  #run(what: string, work: () => Promise<void>): void {
    const promise: Promise<void> = work()
      .catch((error: unknown) => this.#context.log.error({ error: error instanceof Error ? error.stack : String(error) }, `${what} failed`))
      .finally(() => {
        this.#working.delete(promise);
        this.#events.changed();
      });
    this.#working.add(promise);
  }

  /** A start: whoever destroys the instance meanwhile aborts it and waits for its end. */
  #start(what: string, instance: Instance, work: (start: Start) => Promise<void>): void {
    const start = newStart();
    this.#starts.set(instance.id, start);
    this.#run(what, async () => {
      try {
        await work(start);
      } finally {
        this.#started(instance, start);
      }
    });
  }

  #started(instance: Instance, start: Start): void {
    if (this.#starts.get(instance.id) === start) this.#starts.delete(instance.id);
    start.end();
  }

  create(pool: PoolKey): void {
    const { world, clock } = this.#context;
    const instance = newInstance(newInstanceId(), pool, newSecret(), clock.now());
    world.addInstance(instance);
    this.#start('creating an instance', instance, (start) => this.#create(instance, start));
  }

  async #create(instance: Instance, start: Start): Promise<void> {
    const { driver, world, clock, log } = this.#context;
    try {
      await this.#boot(instance, start);
      instance.genericAt = clock.now();
      world.transition(instance, { kind: 'generic', since: clock.now() });
      this.#events.created();
    } catch (error) {
      // Whoever destroys it has waited for this and goes on.
      if (instance.state.kind !== 'creating') return;
      if (!this.#ending) {
        log.error(
          { instance: instance.id, pool: instance.runtime, error: messageOf(error), driver: driver.name },
          'an instance could not be created',
        );
        const detail = `No ${instance.runtime} instance could be started: ${messageOf(error)}`;
        for (const key of this.#concerned(instance)) this.#events.failed(key, { code: 'start-failed', detail });
      }
      this.#started(instance, start);
      await this.#destroy(instance, 'lost', 'it could not be started');
    }
  }

  /** Whose failure it is: of those who brought the image, where it was made of one; else (null) everybody's. */
  #concerned({ image }: Instance): (string | null)[] {
    if (image === null) return [null];
    return [...this.#context.world.revisions.values()].filter(({ revision }) => revision.image === image).map(({ key }) => key);
  }

  /** From nothing to a sealed instance that has answered. Throws where it ended, was ended or took too long. */
  async #boot(instance: Instance, start: Start): Promise<void> {
    const late = new AbortController();
    // Not AbortSignal.timeout(): those live on when the start is over, 30,000 of them at 500 starts a second.
    const timer = setTimeout(
      () => late.abort(new Error(`it was not ready within ${START_TIMEOUT_MS / 1_000} s`)),
      START_TIMEOUT_MS,
    ).unref();
    try {
      await this.#bootUntil(instance, start, AbortSignal.any([start.abort.signal, late.signal]));
    } finally {
      clearTimeout(timer);
    }
  }

  async #bootUntil(instance: Instance, start: Start, signal: AbortSignal): Promise<void> {
    const { driver, records } = this.#context;
    const alive = () => {
      if (start.exit) throw new Error(`it ended before it was ready: ${start.exit.detail}`);
      signal.throwIfAborted();
    };
    const { id, runtime, memoryClassMib, network, image, sandbox, nonce } = instance;
    const made = await driver.create({ id, runtime, memoryClassMib, network, image, sandbox, nonce }, signal);
    alive();
    instance.address = made.address;
    instance.startedAt = made.startedAt;
    instance.handle = made.handle;
    instance.pid = made.pid ?? null;
    await records.write({
      ...claimOf(instance, this.#context.clock),
      revision: null,
      memoryMib: memoryClassMib,
      cpu: 0,
      secrets: {},
      initialised: false,
    });
    for (;;) {
      alive();
      const health = await this.#context.runtime.health(made.address, { keep: true }).catch(() => null);
      if (health?.status === 'generic' && health.instance === id) break;
      await sleep(POLL_MS, signal);
    }
    await driver.seal(id);
    alive();
  }

  /** [14] generic → specialising in memory, record on disk, init. Whatever goes wrong destroys it. */
  claim(instance: Instance, revision: RevisionState): void {
    const { world, clock } = this.#context;
    world.transition(instance, { kind: 'specialising', revision: revision.key, since: clock.now() });
    instance.cpu = revision.revision.settings.cpu;
    this.#events.claimed(instance, revision);
    const traceparent = oldestTrace(revision);
    this.#start('specialising an instance', instance, (start) => this.#specialise(instance, revision, start, traceparent));
  }

  async #specialise(instance: Instance, state: RevisionState, start: Start, traceparent: string | null): Promise<void> {
    const { world, clock, log } = this.#context;
    const begun = clock.now();
    const claimedAt = clock.wall();
    const failure = await this.#specialising.load(instance, state, start);
    // Destroyed meanwhile: whoever does that has waited for this and goes on.
    if (instance.state.kind !== 'specialising') return;
    this.#started(instance, start);
    if (failure === 'claim lost') {
      log.error({ instance: instance.id, revision: state.key }, 'another controller has claimed this instance');
      this.#leaveAlone(instance);
      return;
    }
    if (failure) {
      this.#events.follow(instance, state.key);
      log.warn(
        { instance: instance.id, revision: state.key, code: failure.code, detail: failure.detail },
        'an instance did not become ready',
      );
      this.#events.failed(state.key, failure);
      await this.#destroy(instance, 'lost', failure.detail);
      return;
    }
    instance.specialisedAt = clock.now();
    instance.initMs = instance.specialisedAt - begun;
    state.failures = 0;
    state.problem = null;
    world.transition(instance, { kind: 'ready', revision: state.key, idleSince: clock.now() });
    this.#events.ready(instance);
    const { initMs } = instance;
    // What nobody waits for comes after the pass that makes the grant, which has been asked for.
    setImmediate(() => {
      this.#events.started({ instance, revision: state.key, claimedAt, initMs, traceparent });
      this.#specialising.note(instance, state);
    });
    this.#followLater(instance, state.key);
  }

  /** When the grant is on its way; before the instance is destroyed in any case. */
  #followLater(instance: Instance, revision: string): void {
    const cancel = this.#context.clock.after(FOLLOW_AFTER_MS, () => this.#followNow(instance.id));
    this.#unfollowed.set(instance.id, () => {
      cancel();
      this.#events.follow(instance, revision);
    });
  }

  #followNow(id: string): void {
    const follow = this.#unfollowed.get(id);
    this.#unfollowed.delete(id);
    follow?.();
  }

  /**
   * Another controller's: neither the instance nor its record is ours to touch, as long as that one may lead. One that led before,
   * and claimed it with its last breath, has ended by the time, and nobody else would ever end the instance.
   */
  #leaveAlone(instance: Instance): void {
    const { world, clock } = this.#context;
    world.transition(instance, { kind: 'draining', revision: null, since: clock.now() });
    instance.address = null;
    clock.after(DISPUTED_MS, () => {
      if (!this.#ending) this.kill(instance, 'lost', 'whoever claimed it does not lead');
    });
  }

  /** Asks an idle instance whether anything is in flight, then freezes or stops it; busy, it stays. */
  settle(instance: Instance, goal: 'freeze' | 'stop'): void {
    this.#settling.settle(instance, goal);
  }

  thaw(instance: Instance): void {
    this.#settling.thaw(instance);
  }

  /** Destroys an instance; its leases are void from now on. */
  kill(instance: Instance, cause: GoneCause, detail: string): void {
    this.#run('killing an instance', () => this.#destroy(instance, cause, detail));
  }

  /** One that the inventory found and does not believe. */
  discard(instance: Instance, why: string): void {
    this.#context.world.addInstance(instance);
    this.kill(instance, 'lost', why);
  }

  /**
   * An adopted instance that did not answer within a second: it may be busy. Nothing is granted of it
   * until it answers, and it is ended when it does not within its function's timeout.
   */
  verify(instance: Instance): void {
    const { world, clock, runtime } = this.#context;
    const revision = world.revisions.get(revisionOf(instance) ?? '');
    const end = clock.now() + (revision?.revision.settings.timeoutSeconds ?? 0) * 1_000;
    const check = async () => {
      if (this.#ending || !instance.address || instance.state.kind === 'draining') return;
      const health = await runtime.health(instance.address).catch(() => null);
      if (health?.status === 'ready' && health.instance === instance.id && health.revision === revision?.key) {
        instance.suspect = false;
        world.touch(revision?.key ?? null);
        this.#events.changed();
      } else if (health || clock.now() >= end) this.kill(instance, 'lost', 'it did not answer after the controller had started');
      else clock.after(VERIFY_EVERY_MS, () => void check());
    };
    instance.suspect = true;
    void check();
  }

  /** Waits until an instance that seems dead has been told so by the driver, for so long at most; true if it was. */
  async awaitEnd(instance: Instance, until: number): Promise<boolean> {
    while (instance.address !== null && performance.now() < until) await sleep(POLL_MS);
    return instance.address === null;
  }

  /**
   * Out of the plan's sight at once (draining), but counted against the budget until it is really
   * gone. A kill that fails is tried again, for ever: an instance must not be forgotten.
   */
  async #destroy(instance: Instance, cause: GoneCause, detail: string): Promise<void> {
    const { world, clock, records, log } = this.#context;
    if (this.#destroying.has(instance.id) || world.instances.get(instance.id) !== instance) return;
    this.#destroying.add(instance.id);
    if (instance.state.kind !== 'draining')
      world.transition(instance, { kind: 'draining', revision: revisionOf(instance), since: clock.now() });
    instance.address = null;
    this.#reportGone(instance, cause, detail);
    const start = this.#starts.get(instance.id);
    if (start) {
      start.abort.abort(new Error(detail));
      await start.done;
      instance.address = null;
    }
    this.#followNow(instance.id);
    await this.#events.unfollow(instance, cause);
    if (!(await killForGood(this.#context, instance.id, () => this.#ending))) return;
    await this.#specialising.noted(instance.id);
    await records
      .remove(instance.id)
      .catch((error: unknown) =>
        log.warn({ instance: instance.id, error: messageOf(error) }, 'the record of an instance could not be removed'),
      );
    world.removeInstance(instance.id);
    this.#destroying.delete(instance.id);
  }

  #reportGone(instance: Instance, cause: GoneCause, detail: string): void {
    const holders = new Set([...instance.leases.values()].map((lease) => lease.gateway));
    for (const lease of instance.leases.values()) this.#context.world.leaseIndex.delete(lease.id);
    instance.leases.clear();
    this.#events.gone(instance, holders, cause, detail);
  }

  /** [9] The driver's event is the truth. */
  #exited(exit: Exit): void {
    const instance = this.#context.world.instances.get(exit.id);
    const start = this.#starts.get(exit.id);
    if (start) {
      start.onExit(exit);
      return;
    }
    if (!instance) {
      this.#untold?.push(exit);
      return;
    }
    if (instance.address === null) return;
    this.#context.log.info({ instance: exit.id, cause: exit.cause, detail: exit.detail }, 'an instance ended by itself');
    this.kill(instance, exit.cause, exit.detail);
  }
}
