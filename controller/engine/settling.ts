/**
 * What becomes of idle instances: each is asked whether anything is still in flight in it, and then frozen or stopped; and
 * those that are frozen are thawed when somebody wants them.
 */
import type { Instance, RevisionState } from '../core/world.ts';
import { messageOf, type EngineContext, type GoneCause } from './context.ts';

/** Where something is still in flight in an idle instance, it is asked again after this. */
const BUSY_RECHECK_MS = 1_000;
/** An instance that could not be frozen is tried again after this. */
const FREEZE_AGAIN_MS = 10_000;

export interface SettlingParts {
  context: EngineContext;
  /** Runs a piece of work that handles its own errors. */
  run: (what: string, work: () => Promise<void>) => void;
  destroy: (instance: Instance, cause: GoneCause, detail: string) => Promise<void>;
}

export class Settling {
  readonly #parts: SettlingParts;

  constructor(parts: SettlingParts) {
    this.#parts = parts;
  }

  /** Asks an idle instance whether anything is in flight, then freezes or stops it; busy, it stays. */
  settle(instance: Instance, goal: 'freeze' | 'stop'): void {
    if (instance.state.kind === 'frozen') {
      this.#parts.run('stopping a frozen instance', () => this.#parts.destroy(instance, 'stopped', 'idle'));
      return;
    }
    if (instance.state.kind !== 'ready' || instance.state.idleSince === null) return;
    const { revision, idleSince } = instance.state;
    this.#parts.context.world.transition(instance, { kind: 'settling', revision, idleSince, goal });
    this.#parts.run('settling an instance', () => this.#settle(instance, revision, idleSince, goal));
  }

  async #settle(instance: Instance, revision: string, idleSince: number, goal: 'freeze' | 'stop'): Promise<void> {
    const { world, clock } = this.#parts.context;
    const health = await this.#parts.context.runtime.health(instance.address!).catch(() => null);
    if (instance.state.kind !== 'settling') return;
    const state = world.revisions.get(revision);
    const now = clock.now();
    const backToReady = (notBefore: number) => {
      instance.notBefore = notBefore;
      world.transition(instance, { kind: 'ready', revision, idleSince });
    };
    // No answer is no sign that nothing is in flight; that it has died the driver would say.
    if (!health || health.inFlight + health.waitUntil > 0) {
      instance.busySince ??= now;
      const timeoutMs = (state?.revision.settings.timeoutSeconds ?? 0) * 1_000;
      if (now - instance.busySince < timeoutMs) backToReady(now + BUSY_RECHECK_MS);
      else
        await this.#parts.destroy(
          instance,
          health ? 'stopped' : 'lost',
          health ? 'idle, but for what overran its timeout' : 'it does not answer',
        );
      return;
    }
    instance.busySince = null;
    if (goal === 'freeze') await this.#freeze(instance, revision, idleSince, backToReady);
    // Somebody began to wait for it meanwhile: it is as good as new.
    else if (state?.routed && !instance.stale && hasDemand(state)) backToReady(now + BUSY_RECHECK_MS);
    else await this.#parts.destroy(instance, 'stopped', 'idle');
  }

  /** Where it fails, thawing must not: one that is half frozen is no use. */
  async #freeze(instance: Instance, revision: string, idleSince: number, backToReady: (notBefore: number) => void): Promise<void> {
    const { world, driver, clock, log } = this.#parts.context;
    const stillSettling = () => instance.state.kind === 'settling';
    try {
      await driver.freeze(instance.id);
      if (stillSettling()) world.transition(instance, { kind: 'frozen', revision, idleSince });
    } catch (error) {
      log.warn({ instance: instance.id, error: messageOf(error) }, 'an instance could not be frozen');
      try {
        if (stillSettling()) await driver.thaw(instance.id);
        if (stillSettling()) backToReady(clock.now() + FREEZE_AGAIN_MS);
      } catch (cause) {
        if (stillSettling()) await this.#parts.destroy(instance, 'lost', `it could neither be frozen nor thawed: ${messageOf(cause)}`);
      }
    }
  }

  thaw(instance: Instance): void {
    if (instance.state.kind !== 'frozen') return;
    const { revision, idleSince } = instance.state;
    const { world, driver, clock } = this.#parts.context;
    world.transition(instance, { kind: 'thawing', revision, idleSince });
    this.#parts.run('thawing an instance', async () => {
      try {
        await driver.thaw(instance.id);
        if (instance.state.kind === 'thawing') world.transition(instance, { kind: 'ready', revision, idleSince: clock.now() });
      } catch (error) {
        await this.#parts.destroy(instance, 'lost', `it could not be thawed: ${messageOf(error)}`);
      }
    });
  }
}

const hasDemand = (state: RevisionState): boolean => [...state.demand.values()].some((demand) => demand.waiting > 0);
