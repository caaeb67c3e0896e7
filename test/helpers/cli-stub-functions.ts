/** Functions of the stub API: revisions, shares of traffic and access are kept as the real one keeps them; nothing runs. */
import { FunctionAccess } from '#contract/access.ts';
import { DeployRequest } from '#contract/api.ts';
import type { DeployResponse, RevisionView } from '#contract/api.ts';
import { FnError } from '#contract/errors.ts';
import type { FunctionView, Revision, Traffic } from '#contract/function.ts';
import { FunctionSettings, Traffic as TrafficSchema } from '#contract/function.ts';
import { functionPath, previewPath, revisionKey } from '#contract/names.ts';

interface StubFunction {
  namespace: string;
  name: string;
  revisions: Revision[];
  traffic: Traffic;
  access: FunctionAccess;
  generation: number;
}

export class StubFunctions {
  readonly #functions = new Map<string, StubFunction>();
  /** Never used again, not even after the function was deleted. */
  readonly #numbers = new Map<string, number>();
  readonly #publicUrl: string;
  /** Thrown by the next deployment, or so many; of one function where `name` is given. */
  refuse: { error: FnError; name?: string; times?: number } | null = null;

  constructor(publicUrl: string) {
    this.#publicUrl = publicUrl;
  }

  get size(): number {
    return this.#functions.size;
  }

  views(namespace?: string): FunctionView[] {
    return [...this.#functions.values()]
      .filter((one) => namespace === undefined || one.namespace === namespace)
      .map((one) => this.#viewOf(one));
  }

  view(namespace: string, name: string): FunctionView {
    return this.#viewOf(this.#get(namespace, name));
  }

  delete(namespace: string, name: string): void {
    this.#get(namespace, name);
    this.#functions.delete(`${namespace}/${name}`);
  }

  revisions(namespace: string, name: string): RevisionView[] {
    const { revisions, traffic } = this.#get(namespace, name);
    return revisions
      .map((revision) => ({
        ...revision,
        percent: traffic.find((target) => target.revision === revision.number)?.percent ?? 0,
        previewUrl: `${this.#publicUrl}${previewPath(namespace, name, revision.number)}`,
        instances: 0,
      }))
      .toReversed();
  }

  setTraffic(namespace: string, name: string, body: unknown, ifMatch: string | undefined): FunctionView {
    const one = this.#matching(namespace, name, ifMatch);
    const traffic = checked(TrafficSchema, (body as { traffic: unknown }).traffic);
    const stranger = traffic.find(({ revision }) => !one.revisions.some(({ number }) => number === revision));
    if (stranger) throw new FnError('revision-not-found', `There is no revision ${stranger.revision}.`);
    Object.assign(one, { traffic, generation: one.generation + 1 });
    return this.#viewOf(one);
  }

  setAccess(namespace: string, name: string, body: unknown, ifMatch: string | undefined): FunctionView {
    const one = this.#matching(namespace, name, ifMatch);
    Object.assign(one, { access: checked(FunctionAccess, body), generation: one.generation + 1 });
    return this.#viewOf(one);
  }

  deploy(namespace: string, name: string, body: unknown): DeployResponse {
    const request = checked(DeployRequest, body);
    const { refuse } = this;
    if (refuse && (refuse.name === undefined || refuse.name === name)) {
      this.refuse = (refuse.times ?? 1) > 1 ? { ...refuse, times: (refuse.times ?? 1) - 1 } : null;
      throw refuse.error;
    }
    const key = `${namespace}/${name}`;
    const before = this.#functions.get(key);
    const number = (this.#numbers.get(key) ?? 0) + 1;
    this.#numbers.set(key, number);
    const { settings, bundle, entry, image, message } = request;
    const revision: Revision = {
      key: revisionKey(namespace, name, number),
      namespace,
      name,
      number,
      bundle,
      entry,
      image,
      settings: { ...FunctionSettings.parse(settings), concurrency: settings.concurrency ?? 50, egress: settings.egress ?? 'none' },
      form: 'fetch',
      ...(message === undefined ? {} : { message }),
      createdAt: Date.UTC(2026, 0, 1),
    };
    const moves = request.traffic || !before;
    const made: StubFunction = {
      namespace,
      name,
      revisions: [...(before?.revisions ?? []), revision],
      traffic: moves ? [{ revision: number, percent: 100 }] : before.traffic,
      access: (moves ? request.access : undefined) ?? before?.access ?? FunctionAccess.parse({}),
      generation: (before?.generation ?? 0) + 1,
    };
    this.#functions.set(key, made);
    const previewUrl = `${this.#publicUrl}${previewPath(namespace, name, number)}`;
    return { url: this.#viewOf(made).url, previewUrl, revision, timing: { startMs: 3, initMs: 4, routeMs: 1 }, start: 'pooled', notes: [] };
  }

  #get(namespace: string, name: string): StubFunction {
    const found = this.#functions.get(`${namespace}/${name}`);
    if (!found) throw new FnError('function-not-found', `There is no function ${namespace}/${name}.`);
    return found;
  }

  #matching(namespace: string, name: string, ifMatch: string | undefined): StubFunction {
    const found = this.#get(namespace, name);
    if (ifMatch !== undefined && ifMatch !== `"${found.generation}"`)
      throw new FnError('precondition-failed', 'The function has another ETag by now.');
    return found;
  }

  #viewOf({ namespace, name, revisions, traffic, access, generation }: StubFunction): FunctionView {
    return {
      namespace,
      name,
      url: `${this.#publicUrl}${functionPath(namespace, name)}`,
      urls: access.routes.filter(({ host }) => host === undefined).map(({ path }) => `${this.#publicUrl}${path}`),
      revision: revisions.find(({ number }) => number === traffic[0]!.revision)!,
      traffic,
      access,
      etag: String(generation),
      revisions: revisions.map(({ number }) => number).toReversed(),
      instances: 0,
    };
  }
}

interface Schema<T> {
  safeParse(value: unknown): { success: true; data: T } | { success: false; error: { issues: { path: PropertyKey[]; message: string }[] } };
}

function checked<T>(schema: Schema<T>, value: unknown): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const errors = result.error.issues.map(({ path, message }) => ({ pointer: `/${path.map(String).join('/')}`, detail: message }));
  throw new FnError('invalid', 'The body is not valid.', { errors });
}
