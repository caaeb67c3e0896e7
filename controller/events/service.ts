/** Events as the API has them, and the dispatcher's view of functions and secrets. */
import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import type { FunctionAccess } from '#contract/access.ts';
import { FnError, type FieldError } from '#contract/errors.ts';
import { type Destination, SECRET_REFERENCE, WEBHOOKS_PATH } from '#contract/events.ts';
import { functionPath } from '#contract/names.ts';
import type { NamespaceSettings } from '#contract/tenancy.ts';
import { restingStatus, type Trigger, type TriggerStatus, type TriggerView } from '#contract/trigger.ts';
import type { Clock } from '#kit/clock.ts';
import type { Log } from '#kit/log.ts';
import { addressAllowed } from '#kit/public-address.ts';
import type { Events } from '../api/platform.ts';
import type { EventQuestions, FunctionEventStats, SecretTexts } from '../dispatcher/types.ts';
import type { FunctionRecord } from '../store/types.ts';
import { DispatcherProcess } from './dispatcher-process.ts';
import { eventSecrets, functionEvents, hasTriggers, networksOf } from './function-events.ts';

/** A trigger that is changed while another change of the function is made is tried so often. */
const MAX_CHANGE_ATTEMPTS = 5;
/** What the dispatcher has not answered of a trigger by then is told without, ms. */
const STATUS_TIMEOUT_MS = 3_000;

/** What is needed of the engine. */
export interface FunctionsPort {
  /** Throws FnError function-not-found. */
  function(namespace: string, name: string): FunctionRecord;
  functions(namespace?: string): FunctionRecord[];
  setAccess(namespace: string, name: string, access: FunctionAccess, ifMatch: string | null): Promise<unknown>;
}

export interface EventsOptions {
  functions: () => FunctionsPort;
  /** Values of secrets. Throws FnError secret-not-found. */
  reveal: (namespace: string, names: readonly string[]) => Promise<ReadonlyMap<string, { value: string }>>;
  namespace: (name: string) => NamespaceSettings | null;
  installation: () => Promise<string>;
  /** What a home's dispatcher is. */
  dispatcher: { file: string; env: NodeJS.ProcessEnv };
  /** Whether events may wait in the store of an earlier run. */
  mayHaveEvents: () => boolean;
  publicUrl: string;
  clock: Clock;
  log: Log;
}

export class EventsService implements Events {
  readonly #options: EventsOptions;
  readonly #dispatcher: DispatcherProcess;
  /** What changed since the dispatcher was told: sent once per turn of the event loop. */
  readonly #changed = new Map<string, { namespace: string; name: string; record: FunctionRecord | null; deleted: boolean }>();
  #telling: Promise<void> = Promise.resolve();
  #waiting = false;
  /** Values by NAMESPACE/NAME, so that a change of one function opens no other's secrets. */
  readonly #secrets = new Map<string, string>();
  #started = false;

  constructor(options: EventsOptions) {
    this.#options = options;
    const { clock, log, dispatcher } = options;
    this.#dispatcher = new DispatcherProcess({
      ...dispatcher,
      clock,
      log,
      config: async () => {
        const records = options.functions().functions();
        return {
          installation: await options.installation(),
          functions: records.map((record) => this.#eventsOf(record)),
          secrets: await this.#secretsOf(records),
        };
      },
      needed: () =>
        options
          .functions()
          .functions()
          .some(({ access }) => hasTriggers(access)),
    });
  }

  /** The functions are known: starts a dispatcher where there is something for it. */
  start(): void {
    this.#started = true;
    const { functions, mayHaveEvents } = this.#options;
    if (
      mayHaveEvents() ||
      functions()
        .functions()
        .some(({ access }) => hasTriggers(access))
    )
      this.#dispatcher.start();
  }

  get dispatcherPid(): number | null {
    return this.#dispatcher.pid;
  }

  get stats(): readonly FunctionEventStats[] {
    return this.#dispatcher.stats;
  }

  async close(graceMs: number): Promise<void> {
    await this.#dispatcher.close(graceMs);
  }

  // What the engine tells.

  wanted(): void {
    this.#dispatcher.start();
  }

  functionChanged(namespace: string, name: string, record: FunctionRecord | null): void {
    // Before the start all of them are told at once.
    if (!this.#started) return;
    if (record === null ? this.#options.mayHaveEvents() : hasTriggers(record.access)) this.#dispatcher.start();
    this.#tell(namespace, name, record);
  }

  /** A secret has a new value. */
  secretChanged(namespace: string, name: string): void {
    this.#secrets.delete(`${namespace}/${name}`);
    if (!this.#started) return;
    for (const record of this.#options.functions().functions(namespace))
      if (eventSecrets(record.access).includes(name)) this.#tell(namespace, record.name, record);
  }

  /** Networks of a namespace may have changed. */
  namespacesChanged(): void {
    if (!this.#started) return;
    for (const record of this.#options.functions().functions()) this.#tell(record.namespace, record.name, record);
  }

  #tell(namespace: string, name: string, record: FunctionRecord | null): void {
    const key = `${namespace}/${name}`;
    // Also where it is made anew at once: what waited for the old one is not the new one's.
    const deleted = record === null || this.#changed.get(key)?.deleted === true;
    this.#changed.set(key, { namespace, name, record, deleted });
    if (this.#waiting) return;
    this.#waiting = true;
    this.#telling = this.#telling.then(async () => {
      this.#waiting = false;
      const changed = [...this.#changed.values()];
      this.#changed.clear();
      try {
        const secrets = await this.#secretsOf(this.#options.functions().functions());
        this.#dispatcher.change({
          set: changed.flatMap(({ record: now }) => (now === null ? [] : this.#eventsOf(now))),
          remove: changed.flatMap(({ namespace: of, name: called, deleted }) => (deleted ? { namespace: of, name: called, deleted } : [])),
          secrets,
        });
      } catch (error) {
        const why = error instanceof Error ? error.message : String(error);
        this.#options.log.error({ error: why }, 'the dispatcher could not be told of a change; it is told of all at its next start');
      }
    });
  }

  #eventsOf(record: FunctionRecord) {
    return functionEvents(record, this.#options.namespace(record.namespace));
  }

  /** Those that are not there are left out: the dispatcher says which trigger misses one. */
  async #secretsOf(records: readonly FunctionRecord[]): Promise<SecretTexts> {
    const texts: SecretTexts = {};
    for (const { namespace, access } of records) {
      for (const name of eventSecrets(access)) {
        const key = `${namespace}/${name}`;
        const value = this.#secrets.get(key) ?? (await this.#reveal(namespace, name));
        if (value === null) continue;
        this.#secrets.set(key, value);
        texts[key] = value;
      }
    }
    // What no function needs any more is not kept, least of all a secret.
    for (const key of this.#secrets.keys()) if (!(key in texts)) this.#secrets.delete(key);
    return texts;
  }

  async #reveal(namespace: string, name: string): Promise<string | null> {
    try {
      return (await this.#options.reveal(namespace, [name])).get(name)?.value ?? null;
    } catch (error) {
      if (error instanceof FnError && error.code === 'secret-not-found') return null;
      throw error;
    }
  }

  /** Throws FnError secret-not-found, invalid: of what was there before nothing is said again. */
  async check(namespace: string, access: FunctionAccess, before: FunctionAccess | null): Promise<void> {
    const known = new Set(before === null ? [] : eventSecrets(before));
    const secrets = eventSecrets(access).filter((name) => !known.has(name));
    await this.#options.reveal(namespace, secrets);
    const networks = networksOf(namespace, this.#options.namespace(namespace));
    if (networks === null) return;
    const faults: FieldError[] = [];
    for (const { pointer, of } of dialled(access)) {
      for (const host of hostsOf(of)) {
        const address = await forbiddenAddress(host, networks);
        if (address === null) continue;
        const allow = `fn namespace set ${namespace} --networks CIDR lets it`;
        faults.push({
          pointer,
          detail: `${host === address ? host : `${host} is ${address}, which`} may not be dialled by functions of ${namespace}: it is no public address; ${allow}`,
        });
      }
    }
    const [first] = faults;
    if (first !== undefined) throw new FnError('invalid', `${first.pointer}: ${first.detail}.`, { errors: faults });
  }

  // Events

  listInvocations: EventQuestions['listInvocations'] = (...args) => this.#ask('listInvocations', ...args);
  getInvocation: EventQuestions['getInvocation'] = (...args) => this.#ask('getInvocation', ...args);
  getResult: EventQuestions['getResult'] = (...args) => this.#ask('getResult', ...args);
  cancelInvocation: EventQuestions['cancelInvocation'] = (...args) => this.#ask('cancelInvocation', ...args);
  listDeadLetters: EventQuestions['listDeadLetters'] = (...args) => this.#ask('listDeadLetters', ...args);
  getDeadLetter: EventQuestions['getDeadLetter'] = (...args) => this.#ask('getDeadLetter', ...args);
  redrive: EventQuestions['redrive'] = (...args) => this.#ask('redrive', ...args);
  purge: EventQuestions['purge'] = (...args) => this.#ask('purge', ...args);
  triggerStatus: EventQuestions['triggerStatus'] = (...args) => this.#ask('triggerStatus', ...args);

  async backlog(namespace: string, name: string) {
    this.#options.functions().function(namespace, name);
    // Nobody is started to say that there is nothing.
    if (this.#dispatcher.pid === null && !this.#options.mayHaveEvents()) return { waiting: 0, running: 0, dead: 0, oldestAt: null };
    return this.#dispatcher.ask('backlog', namespace, name);
  }

  #ask<Name extends keyof EventQuestions>(question: Name, ...args: Parameters<EventQuestions[Name]>) {
    const [namespace, name] = args;
    this.#options.functions().function(namespace, name);
    return this.#dispatcher.ask(question, ...args);
  }

  async listTriggers(namespace: string, name: string | null): Promise<TriggerView[]> {
    const functions = this.#options.functions();
    const records = name === null ? functions.functions(namespace) : [functions.function(namespace, name)];
    const views = await Promise.all(records.filter(({ access }) => access.triggers.length > 0).map((record) => this.#views(record)));
    return views.flat();
  }

  async #views({ namespace, name, access }: FunctionRecord): Promise<TriggerView[]> {
    const statuses = await this.#statuses(namespace, name);
    return access.triggers.map((trigger) => ({
      namespace,
      function: name,
      trigger,
      status: statuses[trigger.name] ?? restingStatus(trigger.enabled ? 'idle' : 'paused'),
      url: trigger.type === 'webhook' ? this.#webhookUrl(namespace, name, trigger.name) : null,
    }));
  }

  /** What is configured can be told although nobody says how it does. */
  async #statuses(namespace: string, name: string): Promise<Record<string, TriggerStatus>> {
    if (this.#dispatcher.pid === null) return {};
    const { clock, log } = this.#options;
    let cancel = () => {};
    const late = new Promise<Record<string, TriggerStatus>>((resolve) => {
      cancel = clock.after(STATUS_TIMEOUT_MS, () => resolve({}));
    });
    try {
      return await Promise.race([this.#dispatcher.ask('triggerStatus', namespace, name), late]);
    } catch (error) {
      log.warn({ error: error instanceof Error ? error.message : String(error) }, 'the dispatcher does not say how triggers do');
      return {};
    } finally {
      cancel();
    }
  }

  #webhookUrl(namespace: string, name: string, trigger: string): string {
    return `${this.#options.publicUrl}${WEBHOOKS_PATH.slice(0, -1)}${functionPath(namespace, name)}/${trigger}`;
  }

  async getTrigger(namespace: string, name: string, trigger: string): Promise<TriggerView> {
    const record = this.#options.functions().function(namespace, name);
    const view = (await this.#views(record)).find((one) => one.trigger.name === trigger);
    if (view === undefined) throw triggerNotFound(name, trigger);
    return view;
  }

  async putTrigger(namespace: string, name: string, trigger: Trigger): Promise<TriggerView> {
    await this.#change(namespace, name, (triggers) => {
      const at = triggers.findIndex((one) => one.name === trigger.name);
      return at < 0 ? [...triggers, trigger] : triggers.with(at, trigger);
    });
    return this.getTrigger(namespace, name, trigger.name);
  }

  async enableTrigger(namespace: string, name: string, trigger: string, enabled: boolean): Promise<TriggerView> {
    await this.#change(namespace, name, (triggers) => {
      requireTrigger(triggers, name, trigger);
      return triggers.map((one) => (one.name === trigger ? { ...one, enabled } : one));
    });
    return this.getTrigger(namespace, name, trigger);
  }

  async removeTrigger(namespace: string, name: string, trigger: string): Promise<void> {
    await this.#change(namespace, name, (triggers) => {
      requireTrigger(triggers, name, trigger);
      return triggers.filter((one) => one.name !== trigger);
    });
  }

  /** Read, change and write; again where somebody else has written between. */
  async #change(namespace: string, name: string, change: (triggers: Trigger[]) => Trigger[]): Promise<void> {
    const functions = this.#options.functions();
    for (let attempt = 1; ; attempt += 1) {
      const { access, generation } = functions.function(namespace, name);
      try {
        await functions.setAccess(namespace, name, { ...access, triggers: change(access.triggers) }, String(generation));
        return;
      } catch (error) {
        const raced = error instanceof FnError && error.code === 'precondition-failed';
        if (!raced || attempt === MAX_CHANGE_ATTEMPTS) throw error;
      }
    }
  }
}

const triggerNotFound = (name: string, trigger: string) =>
  new FnError('trigger-not-found', `The function ${name} has no trigger ${trigger}.`);

function requireTrigger(triggers: readonly Trigger[], name: string, trigger: string): void {
  if (!triggers.some((one) => one.name === trigger)) throw triggerNotFound(name, trigger);
}

/** All that a function's events make the platform dial, and where it stands. */
function* dialled({
  triggers,
  async: { onSuccess, onFailure },
}: FunctionAccess): Generator<{ pointer: string; of: Trigger | Destination }> {
  for (const [index, trigger] of triggers.entries()) {
    yield { pointer: `/access/triggers/${index}`, of: trigger };
    if (trigger.deadLetter !== null) yield { pointer: `/access/triggers/${index}/deadLetter`, of: trigger.deadLetter };
  }
  for (const [index, of] of onSuccess.entries()) yield { pointer: `/access/async/onSuccess/${index}`, of };
  for (const [index, of] of onFailure.entries()) yield { pointer: `/access/async/onFailure/${index}`, of };
}

function hostsOf(of: Trigger | Destination): string[] {
  const urls = 'url' in of ? [of.url] : 'brokers' in of ? of.brokers.map((broker) => `tcp://${broker}`) : [];
  return urls.map((url) => new URL(url.replaceAll(SECRET_REFERENCE, 'x')).hostname.replace(/^\[|\]$/g, ''));
}

/** The address that may not be dialled; null where all may, or the name is not known now: then it is looked at when it is dialled. */
async function forbiddenAddress(host: string, networks: readonly string[]): Promise<string | null> {
  if (isIP(host) !== 0) return addressAllowed(host, networks) ? null : host;
  try {
    const addresses = await lookup(host, { all: true });
    return addresses.find(({ address }) => !addressAllowed(address, networks))?.address ?? null;
  } catch {
    return null;
  }
}
