/**
 * How a generic instance becomes one of a revision: limits and code put in place, the claim on disk, init. Somebody waits for it, so
 * whatever can be done beside or after it is: the instance wakes while its code is put in place, and that it is ready is noted when
 * the grant is on its way.
 */
import { FnError } from '#contract/errors.ts';
import type { HandlerForm } from '#contract/function.ts';
import { type Clock, sleep } from '#kit/clock.ts';
import type { Instance, RevisionState } from '../core/world.ts';
import { ClaimLost } from '../driver/types.ts';
import type { InstanceRecord } from '../store/types.ts';
import { messageOf, type EngineContext, type StartFailure } from './context.ts';
import type { Start } from './start.ts';
import { brokenStart, earlyExitFailure, initRequest, loadFailure, missingSecret } from './start-failure.ts';

/** How long after an exit of a fresh instance the driver's word for the reason is waited for. */
const EXIT_GRACE_MS = 500;

/** Where an instance's code is: as it sees it, and in the store; since when, monotonic ms. */
interface Placed {
  code: string;
  codeCache: boolean;
  bundleDir: string;
  at: number;
}

export interface SpecialisingParts {
  context: EngineContext;
  /** Form that a revision's code turned out to have. */
  forms: Map<string, HandlerForm>;
  /** Runs a piece of work that handles its own errors. */
  run: (what: string, work: () => Promise<void>) => void;
}

/** What a record says of an instance all its life. */
export function claimOf(
  { id, nonce, startedAt, createdAt }: Instance,
  clock: Clock,
): Pick<InstanceRecord, 'id' | 'nonce' | 'startedAt' | 'createdAt'> {
  return { id, nonce, startedAt, createdAt: Math.round(clock.wall() - (clock.now() - createdAt)) };
}

export class Specialising {
  readonly #parts: SpecialisingParts;
  /** Notes that are being written. */
  readonly #noting = new Map<string, Promise<void>>();

  constructor(parts: SpecialisingParts) {
    this.#parts = parts;
  }

  /** Limits, code, record, init. Returns why it failed, or null. */
  async load(instance: Instance, state: RevisionState, start: Start): Promise<StartFailure | 'claim lost' | null> {
    const { runtime, secrets, codeCaches, clock } = this.#parts.context;
    const begun = clock.now();
    let preparing: Promise<Placed> | null = null;
    try {
      const values = await secrets.deliver(instance, state.revision);
      if (instance.state.kind !== 'specialising' || !instance.address) return null;
      // After the instance was told that an init comes: it wakes while this process works.
      preparing = new Promise<void>((resolve) => process.nextTick(resolve)).then(() => this.#prepare(instance, state));
      const request = preparing.then((placed) => initRequest(instance, state, placed, values));
      request.catch(() => {}); // init's, too, unless that has failed before
      const outcome = await Promise.race([runtime.init(instance.address, request, start.abort.signal), start.exited]);
      if ('cause' in outcome) return earlyExitFailure(outcome);
      const placed = await preparing;
      if (!outcome.ok) return loadFailure(outcome.error);
      const { codeCache, loadMs, slots, form } = outcome.response;
      if (codeCache !== undefined) instance.codeCache = codeCache;
      if (codeCache === 'made')
        await codeCaches.take(state.revision, placed.bundleDir, { address: instance.address, nonce: instance.nonce });
      if (start.exit) return earlyExitFailure(start.exit);
      // What the shim says is believed as far as it can be true.
      instance.initSteps = { placeMs: placed.at - begun, loadMs: Math.min(Math.max(0, loadMs), clock.now() - placed.at) };
      state.slots ??= slots;
      this.#parts.forms.set(state.key, form);
      return null;
    } catch (error) {
      if (error instanceof ClaimLost) return 'claim lost';
      if (error instanceof FnError && error.code === 'secret-not-found') return missingSecret(error);
      // A connection that broke usually means that the process ended; its word says more than ours.
      const grace = start.abort.signal.aborted ? 0 : EXIT_GRACE_MS;
      const ended = start.exit ?? (await Promise.race([start.exited, sleep(grace).then(() => null)]));
      return ended ? earlyExitFailure(ended) : brokenStart(state.key, error);
    } finally {
      // However it ends: nothing may be written when the instance is gone.
      await preparing?.catch(() => {}); // its error is init's
    }
  }

  #record(instance: Instance, { key, revision }: RevisionState, initialised: boolean): InstanceRecord {
    const { memoryMib, cpu } = revision.settings;
    return {
      ...claimOf(instance, this.#parts.context.clock),
      revision: key,
      memoryMib,
      cpu,
      secrets: { ...instance.secrets },
      initialised,
    };
  }

  /** [14] All that comes before init: limits and code in place, the claim on disk. Throws where the instance is destroyed meanwhile. */
  async #prepare(instance: Instance, state: RevisionState): Promise<Placed> {
    const { records, clock } = this.#parts.context;
    // Both are waited for, also where one fails.
    const [placed, recorded] = await Promise.allSettled([
      this.#place(instance, state),
      records.write(this.#record(instance, state, false)),
    ]);
    if (placed.status === 'rejected') throw placed.reason;
    if (recorded.status === 'rejected') throw recorded.reason;
    if (instance.state.kind !== 'specialising') throw new Error('the instance was ended before its init');
    instance.memoryMib = state.revision.settings.memoryMib;
    return { ...placed.value, at: clock.now() };
  }

  /** Limits, egress and code, with the code cache of a large bundle where there is one. */
  async #place(instance: Instance, { key, revision }: RevisionState): Promise<Omit<Placed, 'at'>> {
    const { driver, bundles, codeCaches } = this.#parts.context;
    const { memoryMib, cpu, egress } = revision.settings;
    const bundleDir = await bundles.dir(revision.bundle);
    const { dir, codeCache } = await codeCaches.prepare(revision, bundleDir);
    const { code } = await driver.specialise(instance.id, { bundleDir: dir, memoryMib, cpu, egress, revision: key, nonce: instance.nonce });
    return { code, codeCache, bundleDir };
  }

  /**
   * That init has succeeded goes on record when nobody waits for it. A controller that ends before it has been written leaves an
   * instance that says so itself [14].
   */
  note(instance: Instance, state: RevisionState): void {
    const { world, records, log } = this.#parts.context;
    if (world.instances.get(instance.id) !== instance || instance.state.kind === 'draining') return;
    const writing = records
      .write(this.#record(instance, state, true))
      .catch((error: unknown) => {
        log.warn({ instance: instance.id, error: messageOf(error) }, 'that an instance is initialised could not be recorded');
      })
      .finally(() => this.#noting.delete(instance.id));
    this.#noting.set(instance.id, writing);
    this.#parts.run('recording an instance', () => writing);
  }

  /** Resolves when nothing is being written of it. */
  async noted(id: string): Promise<void> {
    await this.#noting.get(id);
  }
}
