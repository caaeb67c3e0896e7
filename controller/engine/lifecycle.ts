/**
 * Carries out what was decided about instances: create, claim, settle, thaw, kill. Each step moves
 * the world first and acts then; whatever comes back (or does not) ends in a state from which the
 * plan can go on. An instance about which there is any doubt is destroyed.
 */
import { memoryClass, type HandlerForm } from '#contract/function.ts';
import { newInstanceId, newSecret } from '#kit/ids.ts';
import { sleep } from '#kit/clock.ts';
import type { Instance, PoolKey, RevisionState } from '../core/world.ts';
import type { Exit } from '../driver/types.ts';
import { messageOf, type EngineContext, type GoneCause, type InstanceEvents, type StartFailure } from './context.ts';

/** How long an instance may take from its creation to its first health answer. */
const START_TIMEOUT_MS = 60_000;
/** How often a starting instance is asked whether it listens. */
const POLL_MS = 4;
/** Where something is still in flight in an idle instance, it is asked again after this. */
const BUSY_RECHECK_MS = 1_000;
/** How long after an exit of a fresh instance the driver's word for the reason is waited for. */
const EXIT_GRACE_MS = 300;

export class Lifecycle {
  readonly #context: EngineContext;
  readonly #events: InstanceEvents;
  /** Form that a revision's code turned out to have, at its first load. */
  readonly forms = new Map<string, HandlerForm>();
  /** Called with the driver's word when an instance that is being started ends. */
  readonly #onEarlyExit = new Map<string, (exit: Exit) => void>();
  readonly #working = new Set<Promise<void>>();

  constructor(context: EngineContext, events: InstanceEvents) {
    this.#context = context;
    this.#events = events;
    context.driver.onExit((exit) => this.#exited(exit));
  }

  /** Resolves when nothing that was begun is still under way. */
  async settled(): Promise<void> {
    while (this.#working.size > 0) await Promise.all(this.#working);
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

  create(pool: PoolKey): void {
    const { world, clock } = this.#context;
    const instance: Instance = {
      ...pool,
      id: newInstanceId(),
      memoryMib: pool.memoryClassMib,
      cpu: 0,
      state: { kind: 'creating' },
      address: null,
      nonce: newSecret(),
      createdAt: clock.now(),
      genericAt: null,
      specialisedAt: null,
      initMs: 0,
      notBefore: 0,
      busySince: null,
      leases: new Map(),
      served: false,
      suspicions: 0,
      suspect: false,
      handle: '',
      pid: null,
      startedAt: '',
    };
    world.addInstance(instance);
    this.#run('creating an instance', () => this.#create(instance));
  }

  async #create(instance: Instance): Promise<void> {
    const { driver, records, clock, log } = this.#context;
    const abort = AbortSignal.timeout(START_TIMEOUT_MS);
    let early: Exit | null = null;
    this.#onEarlyExit.set(instance.id, (exit) => (early = exit));
    try {
      const { id, runtime, memoryClassMib, network, nonce } = instance;
      const made = await driver.create({ id, runtime, memoryClassMib, network, nonce }, abort);
      instance.address = made.address;
      instance.startedAt = made.startedAt;
      instance.handle = made.handle;
      instance.pid = made.pid ?? null;
      await records.write({ ...this.#record(instance), revision: null, memoryMib: memoryClassMib, cpu: 0, initialised: false });
      for (;;) {
        const ended = early as Exit | null;
        if (ended) throw new Error(`it ended before it listened: ${ended.detail}`);
        abort.throwIfAborted();
        const health = await this.#context.runtime.health(made.address).catch(() => null);
        if (health?.status === 'generic' && health.instance === id) break;
        await sleep(POLL_MS, abort);
      }
      await driver.seal(id);
      this.#onEarlyExit.delete(id);
      if (instance.state.kind !== 'creating') return;
      instance.genericAt = clock.now();
      this.#context.world.transition(instance, { kind: 'generic', since: clock.now() });
      this.#events.created();
    } catch (error) {
      this.#onEarlyExit.delete(instance.id);
      if (instance.state.kind === 'draining') {
        // Killed while it was being created: what the driver made since then goes too.
        await driver.kill(instance.id);
        return;
      }
      log.error({ instance: instance.id, pool: instance.runtime, error: messageOf(error) }, 'an instance could not be created');
      if (instance.state.kind === 'creating') {
        this.#events.failed(null, { code: 'start-failed', detail: `No ${instance.runtime} instance could be started: ${messageOf(error)}` });
      }
      await this.#destroy(instance, 'lost', 'it could not be started');
    }
  }

  /** What a record says of an instance all its life. */
  #record({ id, nonce, startedAt, createdAt }: Instance) {
    const { clock } = this.#context;
    return { id, nonce, startedAt, createdAt: Math.round(clock.wall() - (clock.now() - createdAt)) };
  }

  /** [14] generic → specialising in memory, record on disk, init. Whatever goes wrong destroys it. */
  claim(instance: Instance, revision: RevisionState): void {
    const { world, clock } = this.#context;
    world.transition(instance, { kind: 'specialising', revision: revision.key, since: clock.now() });
    instance.cpu = revision.revision.settings.cpu;
    this.#events.claimed();
    this.#run('specialising an instance', () => this.#specialise(instance, revision));
  }

  async #specialise(instance: Instance, state: RevisionState): Promise<void> {
    const { driver, records, bundles, world, clock, log } = this.#context;
    const { revision } = state;
    const { settings } = revision;
    const begun = clock.now();
    const exit = Promise.withResolvers<Exit>();
    this.#onEarlyExit.set(instance.id, exit.resolve);
    const abort = new AbortController();
    let failure: StartFailure | null = null;
    try {
      const record = { ...this.#record(instance), revision: state.key, memoryMib: settings.memoryMib, cpu: settings.cpu };
      const [{ code }] = await Promise.all([
        bundles.dir(revision.bundle).then((bundleDir) =>
          driver.specialise(instance.id, { bundleDir, memoryMib: settings.memoryMib, cpu: settings.cpu, egress: settings.egress }),
        ),
        records.write({ ...record, initialised: false }),
      ]);
      instance.memoryMib = settings.memoryMib;
      const outcome = await Promise.race([
        this.#context.runtime.init(instance.address!, initRequest(instance, state, code), abort.signal),
        exit.promise,
      ]);
      if ('cause' in outcome) failure = earlyExitFailure(outcome);
      else if (!outcome.ok) failure = loadFailure(outcome.error);
      else {
        await records.write({ ...record, initialised: true });
        if (instance.state.kind !== 'specialising') return;
        this.#onEarlyExit.delete(instance.id);
        instance.specialisedAt = clock.now();
        instance.initMs = instance.specialisedAt - begun;
        state.slots ??= outcome.response.slots;
        this.forms.set(state.key, outcome.response.form);
        state.failures = 0;
        state.problem = null;
        world.transition(instance, { kind: 'ready', revision: state.key, idleSince: clock.now() });
        this.#events.follow(instance, state.key);
        this.#events.ready(instance);
        return;
      }
    } catch (error) {
      // A connection that broke usually means that the process ended; its word says more than ours.
      const ended = await Promise.race([exit.promise, sleep(EXIT_GRACE_MS).then(() => null)]);
      failure = ended ? earlyExitFailure(ended) : { code: 'start-failed', detail: `${state.key} could not be started: ${messageOf(error)}` };
    } finally {
      abort.abort();
      this.#onEarlyExit.delete(instance.id);
    }
    log.warn({ instance: instance.id, revision: state.key, code: failure.code, detail: failure.detail }, 'an instance did not become ready');
    this.#events.follow(instance, state.key);
    if (instance.state.kind === 'specialising') this.#events.failed(state.key, failure);
    await this.#destroy(instance, 'lost', failure.detail);
  }

  /** Asks an idle instance whether anything is in flight, then freezes or stops it; busy, it stays. */
  settle(instance: Instance, goal: 'freeze' | 'stop'): void {
    if (instance.state.kind === 'frozen') {
      this.kill(instance, 'stopped', 'idle');
      return;
    }
    if (instance.state.kind !== 'ready' || instance.state.idleSince === null) return;
    const { revision, idleSince } = instance.state;
    this.#context.world.transition(instance, { kind: 'settling', revision, idleSince, goal });
    this.#run('settling an instance', () => this.#settle(instance, revision, idleSince, goal));
  }

  async #settle(instance: Instance, revision: string, idleSince: number, goal: 'freeze' | 'stop'): Promise<void> {
    const { world, clock, driver, log } = this.#context;
    const stillSettling = () => instance.state.kind === 'settling';
    const backToReady = () => world.transition(instance, { kind: 'ready', revision, idleSince: instance.leases.size > 0 ? null : idleSince });
    const health = await this.#context.runtime.health(instance.address!).catch(() => null);
    if (!stillSettling()) return;
    const state = world.revisions.get(revision);
    const now = clock.now();
    if (health && health.inFlight + health.waitUntil > 0) {
      instance.busySince ??= now;
      const timeoutMs = (state?.revision.settings.timeoutSeconds ?? 0) * 1_000;
      if (now - instance.busySince < timeoutMs) {
        instance.notBefore = now + BUSY_RECHECK_MS;
        backToReady();
        return;
      }
      goal = 'stop';
    } else instance.busySince = null;
    // Somebody began to wait for it meanwhile: it is as good as new.
    if (goal === 'stop' && state?.routed && health && hasDemand(state) && instance.busySince === null) {
      backToReady();
      return;
    }
    if (goal === 'freeze' && health) {
      try {
        await driver.freeze(instance.id);
        if (stillSettling()) world.transition(instance, { kind: 'frozen', revision, idleSince });
        else await driver.thaw(instance.id);
        return;
      } catch (error) {
        log.warn({ instance: instance.id, error: messageOf(error) }, 'an instance could not be frozen; stopping it');
        if (!stillSettling()) return;
      }
    }
    await this.#destroy(instance, health ? 'stopped' : 'lost', health ? 'idle' : 'it did not answer');
  }

  thaw(instance: Instance): void {
    if (instance.state.kind !== 'frozen') return;
    const { revision, idleSince } = instance.state;
    const { world, driver, clock } = this.#context;
    world.transition(instance, { kind: 'thawing', revision, idleSince });
    this.#run('thawing an instance', async () => {
      try {
        await driver.thaw(instance.id);
        if (instance.state.kind === 'thawing') world.transition(instance, { kind: 'ready', revision, idleSince: clock.now() });
      } catch (error) {
        await this.#destroy(instance, 'lost', `it could not be thawed: ${messageOf(error)}`);
      }
    });
  }

  /** Destroys an instance; its leases are void from now on. */
  kill(instance: Instance, cause: GoneCause, detail: string): void {
    this.#run('killing an instance', () => this.#destroy(instance, cause, detail));
  }

  /**
   * Out of the plan's sight at once (draining), but counted against the budget until it is really
   * gone. A kill that fails is tried again, for ever: an instance must not be forgotten.
   */
  async #destroy(instance: Instance, cause: GoneCause, detail: string): Promise<void> {
    const { world, clock, driver, records, log } = this.#context;
    if (instance.state.kind === 'draining' && instance.address === null) return;
    if (instance.state.kind !== 'draining') world.transition(instance, { kind: 'draining', revision: revisionBefore(instance), since: clock.now() });
    instance.address = null;
    this.#reportGone(instance, cause, detail);
    await this.#events.unfollow(instance, cause);
    for (let attempt = 1; ; attempt += 1) {
      try {
        await driver.kill(instance.id);
        break;
      } catch (error) {
        log.error({ instance: instance.id, attempt, error: messageOf(error) }, 'an instance could not be killed; trying again');
        await sleep(Math.min(10_000, 100 * 2 ** attempt));
      }
    }
    await records.remove(instance.id);
    world.removeInstance(instance.id);
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
    const early = this.#onEarlyExit.get(exit.id);
    if (early) {
      early(exit);
      return;
    }
    if (!instance || instance.address === null) return;
    this.#context.log.info({ instance: exit.id, cause: exit.cause, detail: exit.detail }, 'an instance ended by itself');
    this.kill(instance, exit.cause, exit.detail);
  }
}

const revisionBefore = (instance: Instance): string | null => ('revision' in instance.state ? instance.state.revision : null);

const hasDemand = (state: RevisionState): boolean => [...state.demand.values()].some((demand) => demand.waiting > 0);

function initRequest(instance: Instance, state: RevisionState, code: string) {
  const { revision } = state;
  const { settings } = revision;
  return {
    nonce: instance.nonce,
    revision: state.key,
    namespace: revision.namespace,
    name: revision.name,
    number: revision.number,
    code,
    entry: revision.entry,
    env: settings.env,
    slots: state.slots,
    timeoutMs: settings.timeoutSeconds * 1_000,
    memoryMib: settings.memoryMib,
    memoryClassMib: memoryClass(settings.memoryMib),
  };
}

function loadFailure(error: NonNullable<StartFailure['functionError']>): StartFailure {
  return { code: 'function-init-failed', detail: `${error.name}: ${error.message}${error.at ? ` (${error.at})` : ''}`, functionError: error };
}

function earlyExitFailure(exit: Exit): StartFailure {
  if (exit.cause === 'oom') return { code: 'function-oom', detail: 'It ran out of memory while it was loading. Deploy with more --memory.' };
  if (exit.cause === 'lost') return { code: 'start-failed', detail: `The instance was lost while it was loading: ${exit.detail}` };
  return { code: 'function-crashed', detail: `The process ended while it was loading: ${exit.detail}` };
}
