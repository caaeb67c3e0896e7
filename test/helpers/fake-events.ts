/** Events in memory, beside a FakePlatform: triggers are in the access of its functions, where the real ones are. */
import type { FunctionAccess } from '#contract/access.ts';
import { WEBHOOKS_PATH } from '#contract/events.ts';
import type {
  DeadLetterCount,
  DeadLetterDetail,
  DeadLetterList,
  DeadLetterQuery,
  DeadLetterSelection,
  EventBacklog,
  InvocationList,
  InvocationQuery,
  InvocationResult,
  InvocationView,
} from '#contract/events.ts';
import { FnError } from '#contract/errors.ts';
import { functionPath } from '#contract/names.ts';
import { type Trigger, type TriggerStatus, type TriggerView, secretsNeeded } from '#contract/trigger.ts';
import type { Events } from '../../controller/api/platform.ts';
import type { FakePlatform } from './fake-platform.ts';

const AT = Date.UTC(2026, 0, 1, 12);

/** An invocation as the API shows one. */
export const exampleInvocation = (id: string, more: Partial<InvocationView> = {}): InvocationView => ({
  id,
  namespace: 'default',
  function: 'hello',
  state: 'succeeded',
  trigger: null,
  attempts: 1,
  createdAt: AT,
  dueAt: null,
  expiresAt: AT + 21_600_000,
  finishedAt: AT + 40,
  orderKey: null,
  request: 'k3v9x0q2ab-1f',
  revision: 'default/hello@1',
  error: null,
  result: { status: 200, bytes: 5, truncated: false },
  keptUntil: AT + 3_600_000,
  ...more,
});

/** A dead letter, whole. */
export const exampleDeadLetter = (id: string, more: Partial<DeadLetterDetail> = {}): DeadLetterDetail => ({
  id,
  namespace: 'default',
  function: 'hello',
  trigger: 'orders',
  message: '1767268800000-0',
  reason: 'attempts',
  error: { code: 'function-error', detail: 'TypeError: order.items is undefined', status: 500 },
  attempts: 5,
  createdAt: AT,
  deadAt: AT + 60_000,
  keptUntil: AT + 1_209_600_000,
  event: { type: 'fn.redis-stream', source: 'redis://localhost:6379/orders', contentType: 'application/json', bytes: 8 },
  request: 'k3v9x0q2ab-1f',
  headers: [['ce-type', 'fn.redis-stream']],
  body: Buffer.from('{"id":1}').toString('base64'),
  ...more,
});

/** How a trigger does of which nothing is known yet. */
export const statusOfTrigger = ({ enabled }: Trigger, more: Partial<TriggerStatus> = {}): TriggerStatus => ({
  state: enabled ? 'running' : 'paused',
  detail: null,
  lag: 0,
  inFlight: 0,
  concurrency: 1,
  succeeded: 0,
  failed: 0,
  deadLettered: 0,
  filtered: 0,
  lastEventAt: null,
  nextAt: null,
  ...more,
});

export class FakeEvents implements Events {
  /** By `NAMESPACE/NAME ID`. */
  readonly invocations = new Map<string, InvocationView>();
  readonly deadLetters = new Map<string, DeadLetterDetail>();
  /** Names of secrets that there are; null: all. */
  secrets: ReadonlySet<string> | null = null;
  readonly #platform: FakePlatform;

  constructor(platform: FakePlatform) {
    this.#platform = platform;
  }

  /** As the engine has it. Throws FnError function-not-found. */
  #find(what: string, namespace: string, name: string): { access: FunctionAccess } {
    this.#platform.calls.push(`${what} ${namespace}/${name}`);
    const found = this.#platform.functions.get(`${namespace}/${name}`);
    if (found === undefined) throw new FnError('function-not-found', `${name}? Never heard of it.`);
    return found;
  }

  async listInvocations(namespace: string, name: string, { state, limit = 100 }: InvocationQuery): Promise<InvocationList> {
    this.#find('invocations', namespace, name);
    const all = [...this.invocations].filter(([key]) => key.startsWith(`${namespace}/${name} `)).map(([, view]) => view);
    return { invocations: all.filter((view) => state === undefined || view.state === state).slice(0, limit) };
  }

  async getInvocation(namespace: string, name: string, id: string): Promise<InvocationView> {
    this.#find('invocation', namespace, name);
    const found = this.invocations.get(`${namespace}/${name} ${id}`);
    if (found === undefined) throw new FnError('invocation-not-found', 'Never heard of it.');
    return found;
  }

  async getResult(namespace: string, name: string, id: string): Promise<InvocationResult> {
    const { result } = await this.getInvocation(namespace, name, id);
    if (result === null) throw new FnError('invocation-not-found', 'It has no result.');
    return { status: result.status, headers: ['content-type', 'text/plain'], body: Buffer.from('hello').toString('base64') };
  }

  async cancelInvocation(namespace: string, name: string, id: string): Promise<InvocationView> {
    const found = await this.getInvocation(namespace, name, id);
    if (found.finishedAt !== null) throw new FnError('conflict', `It is over: ${found.state}.`);
    const cancelled: InvocationView = { ...found, state: 'cancelled', dueAt: null, finishedAt: AT };
    this.invocations.set(`${namespace}/${name} ${id}`, cancelled);
    return cancelled;
  }

  #dead(namespace: string, name: string, trigger?: string): DeadLetterDetail[] {
    const all = [...this.deadLetters].filter(([key]) => key.startsWith(`${namespace}/${name} `)).map(([, letter]) => letter);
    return all.filter((letter) => trigger === undefined || letter.trigger === trigger);
  }

  async listDeadLetters(namespace: string, name: string, { trigger, before, limit = 100 }: DeadLetterQuery): Promise<DeadLetterList> {
    this.#find('dead', namespace, name);
    const all = this.#dead(namespace, name, trigger);
    const from = before === undefined ? 0 : all.findIndex(({ id }) => id === before) + 1;
    const page = all.slice(from, from + limit).map(({ headers: _headers, body: _body, ...view }) => view);
    return { deadLetters: page, total: all.length };
  }

  async getDeadLetter(namespace: string, name: string, id: string): Promise<DeadLetterDetail> {
    this.#find('dead letter', namespace, name);
    const found = this.deadLetters.get(`${namespace}/${name} ${id}`);
    if (found === undefined) throw new FnError('dead-letter-not-found', 'Never heard of it.');
    return found;
  }

  #take(namespace: string, name: string, selection: DeadLetterSelection): DeadLetterCount {
    const letters =
      'ids' in selection
        ? this.#dead(namespace, name).filter(({ id }) => selection.ids.includes(id))
        : this.#dead(namespace, name, selection.trigger);
    for (const { id } of letters) this.deadLetters.delete(`${namespace}/${name} ${id}`);
    return { count: letters.length };
  }

  async redrive(namespace: string, name: string, selection: DeadLetterSelection): Promise<DeadLetterCount> {
    this.#find('redrive', namespace, name);
    return this.#take(namespace, name, selection);
  }

  async purge(namespace: string, name: string, selection: DeadLetterSelection): Promise<DeadLetterCount> {
    this.#find('purge', namespace, name);
    return this.#take(namespace, name, selection);
  }

  async triggerStatus(namespace: string, name: string): Promise<Record<string, TriggerStatus>> {
    const { access } = this.#find('trigger status', namespace, name);
    return Object.fromEntries(access.triggers.map((trigger) => [trigger.name, statusOfTrigger(trigger)]));
  }

  async backlog(namespace: string, name: string): Promise<EventBacklog> {
    this.#find('backlog', namespace, name);
    return { waiting: 0, running: 0, dead: this.#dead(namespace, name).length, oldestAt: null };
  }

  async listTriggers(namespace: string, name: string | null): Promise<TriggerView[]> {
    const names =
      name === null
        ? [...this.#platform.functions.keys()].filter((key) => key.startsWith(`${namespace}/`)).map((key) => key.split('/')[1]!)
        : [name];
    return names.flatMap((one) => this.#find('triggers', namespace, one).access.triggers.map((trigger) => viewOf(namespace, one, trigger)));
  }

  async getTrigger(namespace: string, name: string, trigger: string): Promise<TriggerView> {
    const found = this.#find('trigger', namespace, name).access.triggers.find((one) => one.name === trigger);
    if (found === undefined) throw new FnError('trigger-not-found', 'Never heard of it.');
    return viewOf(namespace, name, found);
  }

  async putTrigger(namespace: string, name: string, trigger: Trigger): Promise<TriggerView> {
    const found = this.#find('put trigger', namespace, name);
    for (const secret of secretsNeeded(trigger))
      if (this.secrets?.has(secret) === false) throw new FnError('secret-not-found', `There is no secret ${secret} in ${namespace}.`);
    const others = found.access.triggers.filter((one) => one.name !== trigger.name);
    found.access = { ...found.access, triggers: [...others, trigger] };
    return viewOf(namespace, name, trigger);
  }

  async enableTrigger(namespace: string, name: string, trigger: string, enabled: boolean): Promise<TriggerView> {
    const { trigger: before } = await this.getTrigger(namespace, name, trigger);
    return this.putTrigger(namespace, name, { ...before, enabled });
  }

  async removeTrigger(namespace: string, name: string, trigger: string): Promise<void> {
    await this.getTrigger(namespace, name, trigger);
    const found = this.#find('remove trigger', namespace, name);
    found.access = { ...found.access, triggers: found.access.triggers.filter((one) => one.name !== trigger) };
  }
}

const viewOf = (namespace: string, name: string, trigger: Trigger): TriggerView => ({
  namespace,
  function: name,
  trigger,
  status: statusOfTrigger(trigger),
  url:
    trigger.type === 'webhook'
      ? `http://localhost:8080${WEBHOOKS_PATH.slice(0, -1)}${functionPath(namespace, name)}/${trigger.name}`
      : null,
});
