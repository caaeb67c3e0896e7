/**
 * Instances as pods: made generic from an allow-list (pod.ts), claimed by a fenced PATCH (claim.ts), given their code over the
 * pod network (code.ts), followed by one list-and-watch (instances.ts), their ends told apart (endings.ts). While the API server
 * is away nothing is taken for dead: what is created or killed then fails, and is tried again by whoever wants it.
 */
import { sleep, systemClock, type Clock } from '#kit/clock.ts';
import { egressParts } from '#contract/function.ts';
import { parseRevisionKey } from '#contract/names.ts';
import type { UsageSource } from '#contract/stats.ts';
import { CLUSTER_EVENTS, PODS } from '../../kube/resources.ts';
import { KubeError, KubeUnreachable } from '../../kube/types.ts';
import { inParallel } from '../parallel.ts';
import {
  DriverUnavailable,
  type CreateSpec,
  type Driver,
  type DriverFeatures,
  type DriverInstance,
  type Exit,
  type HostsCheck,
  type Leaving,
  type LogChunk,
  type SpecialiseSpec,
  type Usage,
} from '../types.ts';
import { assertAllowed, unavailable } from './access.ts';
import { claim } from './claim.ts';
import { CodeLists, sendCode } from './code.ts';
import { featuresOf, NOT_STARTED } from './features.ts';
import { containerState, isRunning, readInstance, type Known } from './instance.ts';
import { Instances } from './instances.ts';
import { LABELS, podName } from './labels.ts';
import { followLogs } from './logs.ts';
import type { KubernetesDriverOptions } from './options.ts';
import { ensureOwner, removeOwner, type Owner } from './owner.ts';
import { INSIDE, podManifest } from './pod.ts';
import { Policies } from './policies.ts';
import { resize, resizePatch, resizingOf, type Resizing } from './resize.ts';
import { PodUsage } from './usage.ts';
import { noRoom, refusedCreation, SCHEDULE_WAIT_MS, startState } from './starting.ts';

/** Pods that are deleted at a time. */
const PARALLEL = 16;
/** How often policies, the owner and what is left of failed creations are looked after, ms. */
const CARE_EVERY_MS = 30_000;
/** A pod whose start brings no news is looked at by itself so often, ms. */
const LOOK_EVERY_MS = 5_000;
/** A list of networks holds when the network plugin has seen the pod's new label: it is given so long, ms. Before, it may dial what is public. */
const POLICY_SETTLE_MS = 1_000;
/** Events of a pod that are shown, the last ones. */
const SHOWN_EVENTS = 3;

const HOSTS_WORDS =
  'NetworkPolicies know addresses only, and a pod cannot be told which ones a name stands for: list networks; or take egress internet with a policy of your network plugin by name, such as toFQDNs of Cilium';

/** Makes the driver; nothing happens before start(). */
export function createKubernetesDriver(options: KubernetesDriverOptions): Driver {
  return new KubernetesDriver(options);
}

class KubernetesDriver implements Driver {
  readonly name = 'kubernetes';
  readonly images = null;
  readonly #options: KubernetesDriverOptions;
  readonly #clock: Clock;
  readonly #instances: Instances;
  readonly #policies: Policies | null;
  readonly #code = new CodeLists();
  readonly #usage: PodUsage;
  /** Ends what goes on beside the calls: changes of limits. */
  #closing = new AbortController();
  #features: DriverFeatures = NOT_STARTED;
  #resizing: Resizing = { cpu: false, memory: false };
  #owner: Owner | null = null;
  #cancelCare: () => void = () => {};
  #caring: Promise<void> = Promise.resolve();

  constructor(options: KubernetesDriverOptions) {
    const { api, settings, log, clock = systemClock } = options;
    this.#options = options;
    this.#clock = clock;
    this.#instances = new Instances({ api, settings, clock, log });
    this.#usage = new PodUsage({ api, ...settings, clock, log });
    this.#policies =
      settings.networkPolicies === 'enforced' ? new Policies({ api, settings, clock, inUse: () => this.#egressInUse() }) : null;
  }

  get features(): DriverFeatures {
    return this.#features;
  }

  async start(): Promise<void> {
    const { api, settings } = this.#options;
    try {
      const version = await api.version();
      this.#resizing = resizingOf(version);
      await assertAllowed(api, settings, this.#resizing.cpu);
      this.#owner = await ensureOwner(api, settings);
      await this.#instances.start();
      await this.#policies?.start(this.#owner);
      this.#features = featuresOf(settings, version, this.#resizing);
    } catch (error) {
      await this.#instances.close();
      throw unavailable(error);
    }
    this.#closing = new AbortController();
    this.#usage.start();
    this.#careLater();
  }

  async close(): Promise<void> {
    this.#cancelCare();
    this.#closing.abort(new Error('the driver is closed'));
    await this.#caring;
    await this.#usage.close();
    await this.#instances.close();
  }

  async destroyAll(): Promise<void> {
    const { api, settings } = this.#options;
    const selector = { labels: `${LABELS.installation}=${settings.installation},${LABELS.instance}` };
    const { items } = await api.list(PODS, settings.namespace, selector);
    const ids = items.map(({ metadata }) => metadata.labels[LABELS.instance] ?? '');
    await inParallel(ids, PARALLEL, (id) => this.#instances.kill(id));
    await this.#policies?.destroyAll();
    await this.close();
    await removeOwner(api, settings);
  }

  runtimes(): Promise<{ name: string; version: string; image?: string }[]> {
    const { images, version } = this.#options;
    return Promise.resolve(Object.entries(images).map(([name, image]) => ({ name, version, image })));
  }

  async list(): Promise<DriverInstance[]> {
    const { settings } = this.#options;
    this.#started();
    const found = [...this.#instances.all].flatMap(({ id, pod }) => (pod === null ? [] : [readInstance(id, pod, settings)]));
    return Promise.resolve(found);
  }

  async create(spec: CreateSpec, signal: AbortSignal): Promise<DriverInstance> {
    signal.throwIfAborted();
    const image = this.#imageOf(spec);
    this.#started();
    const known = this.#instances.add(spec.id);
    try {
      return await this.#create(known, spec, image, signal);
    } catch (error) {
      throw await this.#undo(known, error);
    }
  }

  async #create(known: Known, spec: CreateSpec, image: string, signal: AbortSignal): Promise<DriverInstance> {
    const { api, settings, version } = this.#options;
    const manifest = podManifest({ settings, spec, image, version, owner: this.#started() });
    // An abort is not told to the API server: it would go on all the same, and what it then makes would be nobody's.
    this.#instances.heard(known, await api.create(PODS, settings.namespace, manifest));
    signal.throwIfAborted();
    const pod = await this.#untilRunning(known, signal);
    known.phase = 'running';
    return readInstance(spec.id, pod, settings);
  }

  /** Throws where it will never run, and where it is aborted. */
  async #untilRunning(known: Known, signal: AbortSignal) {
    let pullError = '';
    let unschedulableSince: number | null = null;
    for (;;) {
      const { pod } = known;
      if (known.phase !== 'creating') throw new Error(`the instance ${known.id} was killed while it was created`);
      if (pod === null || known.gone) throw new DriverUnavailable(`The pod of ${known.id} was deleted by others while it started.`);
      const { waiting } = containerState(pod);
      if (waiting?.reason === 'ErrImagePull') pullError = waiting.message;
      const state = startState(pod, pullError);
      if (state.kind === 'running') return pod;
      if (state.kind === 'failed') throw state.error;
      unschedulableSince = state.unschedulable === null ? null : (unschedulableSince ?? this.#clock.now());
      if (unschedulableSince !== null && this.#clock.now() - unschedulableSince >= SCHEDULE_WAIT_MS)
        throw noRoom(state.unschedulable ?? '');
      try {
        await this.#instances.change(known, LOOK_EVERY_MS, signal);
      } catch (error) {
        throw await this.#tooSlow(known, error);
      }
    }
  }

  /** What to say of one that took too long: what the cluster says of it. Any other abort is passed on as it is. */
  async #tooSlow(known: Known, reason: unknown): Promise<unknown> {
    if (!(reason instanceof DOMException) || reason.name !== 'TimeoutError') return reason;
    const { api, settings } = this.#options;
    const name = podName(settings.installation, known.id);
    const selector = { fields: `involvedObject.name=${name}` };
    const words = await api.list(CLUSTER_EVENTS, settings.namespace, selector).then(
      ({ items }) => items.slice(-SHOWN_EVENTS).map((event) => `${event.reason ?? ''}: ${event.message ?? ''}`),
      (error: unknown) => [`its events cannot be read (${String(error)})`],
    );
    return new DriverUnavailable(`The pod ${name} did not start in time. ${words.join('; ') || 'The cluster says nothing of it.'}`, {
      cause: reason,
    });
  }

  /** After a failed creation; returns what to throw. */
  async #undo(known: Known, error: unknown): Promise<unknown> {
    const { log, settings } = this.#options;
    // Refused: nothing was made. Where there was no answer, or the server failed at it, it may have been, or be made yet.
    if (known.pod === null && error instanceof KubeError && error.status < 500) {
      this.#instances.forget(known);
      return refusedCreation(error, settings.namespace);
    }
    try {
      await this.#instances.kill(known.id);
      if (error instanceof KubeUnreachable) this.#instances.doom(known.id);
    } catch (failure) {
      this.#instances.doom(known.id);
      log.warn({ instance: known.id, error: String(failure) }, 'a failed creation cannot be cleaned up yet; it is tried again');
    }
    return refusedCreation(error, settings.namespace);
  }

  #imageOf({ runtime, image, sandbox, network }: CreateSpec): string {
    const { images, settings } = this.#options;
    if (image !== null) throw new DriverUnavailable('The kubernetes driver cannot run images of functions; docker can.');
    if (sandbox !== null && !settings.sandboxes.includes(sandbox))
      throw new DriverUnavailable(
        `The sandbox ${sandbox} is none of FN_KUBERNETES.sandboxes (${settings.sandboxes.join(', ') || 'there are none'}).`,
      );
    if (network === 'egress' && settings.networkPolicies === 'none')
      throw new DriverUnavailable(
        'Egress is not to be had: networkPolicies of FN_KUBERNETES says that the cluster does not enforce NetworkPolicies.',
      );
    const found = Object.hasOwn(images, runtime) ? images[runtime] : undefined;
    if (found === undefined) throw new DriverUnavailable(`There is no image of the runtime ${runtime}: name it in FN_RUNTIME_IMAGES.`);
    return found;
  }

  async checkHosts(hosts: readonly string[]): Promise<HostsCheck> {
    return Promise.resolve({ refused: hosts.map((host) => ({ host, why: HOSTS_WORDS })), notes: [] });
  }

  async seal(id: string): Promise<void> {
    // The address is the platform's to begin with.
    this.#running(id);
    await Promise.resolve();
  }

  async specialise(id: string, spec: SpecialiseSpec): Promise<{ code: string }> {
    if (Array.isArray(spec.egress) && egressParts(spec.egress).hosts.length > 0) throw new DriverUnavailable(HOSTS_WORDS);
    const { api, settings } = this.#options;
    const known = this.#running(id);
    const pod = known.pod!;
    parseRevisionKey(spec.revision);
    const { network, memoryClassMib, address } = readInstance(id, pod, settings);
    if (network === 'none' && spec.egress !== 'none') throw new Error(`the instance ${id} was created without a network`);
    if (address.kind !== 'tcp') throw new Error(`the instance ${id} has no address`);
    const listing = this.#code.of(spec.bundleDir);
    // It is waited for below; a claim that fails first must not leave it to nobody.
    listing.catch(() => {});
    const networks = typeof spec.egress === 'string' || this.#policies === null ? null : spec.egress;
    const egress =
      networks === null ? (typeof spec.egress === 'string' ? spec.egress : 'internet') : await this.#policies!.ensure(networks);
    const claimed = await claim(pod, { api, namespace: settings.namespace, revision: spec.revision, egress });
    if (known.pod?.metadata.resourceVersion === pod.metadata.resourceVersion) known.pod = claimed;
    this.#limit(known, { memoryClassMib, memoryMib: spec.memoryMib, cpu: spec.cpu });
    try {
      await Promise.all([sendCode(address, spec.nonce, await listing), networks === null ? null : sleep(POLICY_SETTLE_MS)]);
    } catch (error) {
      // Whatever is wrong with the folder: it is read anew the next time.
      this.#code.forget(spec.bundleDir);
      throw error;
    }
    return { code: INSIDE.code };
  }

  /** Beside the cold start: until it is done, the class's limits hold. */
  #limit({ id }: Known, limits: { memoryClassMib: number; memoryMib: number; cpu: number }): void {
    const { api, settings, log } = this.#options;
    const body = resizePatch(this.#resizing, settings, limits);
    if (body === null) return;
    resize(api, settings.namespace, podName(settings.installation, id), body, this.#closing.signal).catch((error: unknown) => {
      if (this.#closing.signal.aborted) return;
      log.warn({ instance: id, error: String(error) }, 'the limits of an instance could not be changed: those of its class hold');
    });
  }

  freeze(id: string): Promise<void> {
    return Promise.reject(new Error(`the instance ${id} cannot be frozen: Kubernetes cannot do that`));
  }

  async thaw(id: string): Promise<void> {
    this.#running(id);
    await Promise.resolve();
  }

  get usageSource(): UsageSource {
    return this.#usage.source;
  }

  usage(id: string): Promise<Usage | null> {
    return Promise.resolve(this.#usage.of(id));
  }

  kill(id: string): Promise<void> {
    return this.#instances.kill(id);
  }

  async *logs(id: string, after: string | null, signal: AbortSignal): AsyncIterable<LogChunk> {
    const known = this.#instances.get(id);
    if (known !== undefined) yield* followLogs(this.#instances.source(known), after, signal);
  }

  onExit(listener: (exit: Exit) => void): void {
    this.#instances.exits.onExit(listener);
  }

  onLeaving(listener: (leaving: Leaving) => void): void {
    this.#instances.exits.onLeaving(listener);
  }

  #started(): Owner {
    if (this.#owner === null) throw new Error('the driver is not started');
    return this.#owner;
  }

  #running(id: string): Known {
    const known = this.#instances.get(id);
    if (known?.phase !== 'running' || known.pod === null || !isRunning(known.pod)) throw new Error(`the instance ${id} is not running`);
    return known;
  }

  #egressInUse(): ReadonlySet<string> {
    return new Set([...this.#instances.all].map(({ pod }) => pod?.metadata.labels[LABELS.egress] ?? 'none'));
  }

  #careLater(): void {
    this.#cancelCare = this.#clock.after(CARE_EVERY_MS, () => {
      this.#caring = this.#care().finally(() => {
        if (!this.#closing.signal.aborted) this.#careLater();
      });
    });
  }

  /** Never throws: what fails is tried again. */
  async #care(): Promise<void> {
    const { api, settings, log } = this.#options;
    try {
      this.#instances.killLeft();
      this.#owner = await ensureOwner(api, settings);
      await this.#policies?.look();
    } catch (error) {
      log.warn(
        { error: error instanceof Error ? error.message : String(error) },
        'looking after the installation failed; it is tried again',
      );
    }
  }
}
