/**
 * A Kubernetes API server in memory, for tests of what decides: objects with versions, conflicts, watches with bookmarks, deletion
 * with grace, and failures on demand. It has no kubelet: a test says what becomes of a pod. Held to the real one by
 * test/cluster/kube-api.test.ts.
 */
import { randomUUID } from 'node:crypto';
import { resourcePath } from './resources.ts';
import {
  KubeError,
  KubeUnreachable,
  type DeleteOptions,
  type KubeApi,
  type KubeObject,
  type Manifest,
  type Patch,
  type Resource,
  type Selector,
  type WatchEvent,
} from './types.ts';

interface Stored {
  path: string;
  namespace: string;
  object: RawObject;
}

type RawObject = Record<string, unknown> & { metadata: Record<string, unknown> };

interface Change {
  version: number;
  type: 'added' | 'modified' | 'deleted';
  path: string;
  namespace: string;
  object: RawObject;
  /** What it was before: a selector may have matched that. */
  before: RawObject | null;
}

interface Watcher {
  wake: () => void;
  stalled: boolean;
  cut: Error | null;
  end: boolean;
}

/** What a test makes of a request before it is carried out: throws in its place, or waits. */
export type FakeFault = (verb: string, path: string) => Promise<void> | void;

export class FakeKube implements KubeApi {
  readonly requests = new Map<string, number>();
  /** Set: called before each request. */
  fault: FakeFault | null = null;
  /** What podLog says, by pod. */
  readonly logs = new Map<string, (sinceTime: string | null, signal: AbortSignal) => AsyncIterable<Buffer>>();
  serverVersion = { major: 1, minor: 20 };
  /** Bookmarks that watches have got. */
  bookmarksTaken = 0;
  readonly #objects = new Map<string, Stored>();
  readonly #changes: Change[] = [];
  readonly #watchers = new Set<Watcher>();
  #last = 100;
  /** Versions below it have expired. */
  #oldest = 0;

  version(): Promise<{ major: number; minor: number }> {
    return Promise.resolve(this.serverVersion);
  }

  async get<T extends KubeObject>(resource: Resource<T>, namespace: string, name: string): Promise<T> {
    await this.#request('get', resource, namespace, name);
    return resource.schema.parse(copy(this.#find(resource, namespace, name).object));
  }

  async list<T extends KubeObject>(resource: Resource<T>, namespace: string, selector: Selector = {}) {
    await this.#request('list', resource, namespace);
    const items = [...this.#objects.values()]
      .filter((stored) => isOf(stored, resource, namespace) && matches(stored.object, selector))
      .map((stored) => resource.schema.parse(copy(stored.object)));
    return { items, resourceVersion: String(this.#last) };
  }

  async create<T extends KubeObject>(resource: Resource<T>, namespace: string, manifest: Manifest): Promise<T> {
    await this.#request('create', resource, namespace);
    const name = String(manifest.metadata.name ?? '');
    const path = resourcePath(resource, namespace, name);
    if (this.#objects.has(path)) throw new KubeError(`${resource.plural} "${name}" already exists`, 409, 'AlreadyExists');
    const object: RawObject = copy({ ...manifest, metadata: { ...manifest.metadata } });
    Object.assign(object.metadata, { namespace, uid: randomUUID(), creationTimestamp: timestamp(0) });
    return resource.schema.parse(this.#store('added', { path, namespace, object }));
  }

  async replace<T extends KubeObject>(resource: Resource<T>, namespace: string, name: string, manifest: Manifest): Promise<T> {
    await this.#request('update', resource, namespace, name);
    const stored = this.#find(resource, namespace, name);
    this.#fence(stored, manifest.metadata.resourceVersion, resource, name);
    const { uid, creationTimestamp } = stored.object.metadata;
    const object: RawObject = copy({ ...manifest, metadata: { ...manifest.metadata, namespace, uid, creationTimestamp } });
    return resource.schema.parse(this.#store('modified', { ...stored, object }));
  }

  async patch<T extends KubeObject>(
    resource: Resource<T>,
    namespace: string,
    name: string,
    patch: Patch,
    subresource?: string,
  ): Promise<T> {
    await this.#request(subresource === undefined ? 'patch' : `patch ${subresource}`, resource, namespace, name);
    const stored = this.#find(resource, namespace, name);
    const object = copy(stored.object);
    if (patch.type === 'json') jsonPatch(object, patch.body);
    else {
      const { metadata } = patch.body;
      const fence = typeof metadata === 'object' && metadata !== null ? Reflect.get(metadata, 'resourceVersion') : undefined;
      this.#fence(stored, fence, resource, name);
      mergePatch(object, patch.body);
    }
    return resource.schema.parse(this.#store('modified', { ...stored, object }));
  }

  async delete<T extends KubeObject>(resource: Resource<T>, namespace: string, name: string, options: DeleteOptions = {}): Promise<void> {
    await this.#request('delete', resource, namespace, name);
    const stored = this.#find(resource, namespace, name);
    const { uid } = stored.object.metadata;
    if (options.uid !== undefined && options.uid !== uid)
      throw new KubeError(`Precondition failed: UID in precondition: ${options.uid}, UID in object meta: ${String(uid)}`, 409, 'Conflict');
    this.#fence(stored, options.resourceVersion, resource, name);
    const running = resource.kind === 'Pod' && runsOnNode(stored.object);
    const grace = options.graceSeconds ?? (running ? 30 : 0);
    if (!running || grace === 0) {
      this.remove(resource, namespace, name);
      return;
    }
    const object = copy(stored.object);
    Object.assign(object.metadata, { deletionTimestamp: timestamp(grace), deletionGracePeriodSeconds: grace });
    this.#store('modified', { ...stored, object });
  }

  async *watch<T extends KubeObject>(
    resource: Resource<T>,
    namespace: string,
    from: { resourceVersion: string; selector?: Selector },
    signal: AbortSignal,
  ): AsyncIterable<WatchEvent<T>> {
    await this.#request('watch', resource, namespace);
    let version = Number(from.resourceVersion);
    if (version < this.#oldest) throw new KubeError(`too old resource version: ${version} (${this.#oldest})`, 410, 'Expired');
    const watcher: Watcher = { wake: () => {}, stalled: false, cut: null, end: false };
    const onAbort = () => watcher.wake();
    signal.addEventListener('abort', onAbort);
    this.#watchers.add(watcher);
    try {
      for (;;) {
        signal.throwIfAborted();
        if (watcher.cut !== null) throw watcher.cut;
        if (watcher.end) return;
        const next = watcher.stalled ? undefined : this.#changes.find((change) => change.version > version);
        if (next === undefined) {
          await new Promise<void>((resolve) => (watcher.wake = resolve));
          continue;
        }
        version = next.version;
        const event = eventOf(next, resource, namespace, from.selector ?? {});
        if (event !== null) yield event;
        else if (next.path === '') {
          yield { type: 'bookmark', resourceVersion: String(version) };
          // Counted when its reader has come back for more.
          this.bookmarksTaken += 1;
        }
      }
    } finally {
      signal.removeEventListener('abort', onAbort);
      this.#watchers.delete(watcher);
    }
  }

  async *podLog(
    namespace: string,
    name: string,
    { sinceTime }: { container: string; sinceTime: string | null },
    signal: AbortSignal,
  ): AsyncIterable<Buffer> {
    this.#count('log');
    await this.fault?.('log', name);
    const log = this.logs.get(name);
    if (log === undefined) throw new KubeError(`pods "${name}" not found`, 404, 'NotFound');
    yield* log(sinceTime, signal);
  }

  async close(): Promise<void> {
    await Promise.resolve();
  }

  /** As a kubelet or another client would: changes an object, whatever its version. */
  change<T extends KubeObject>(resource: Resource<T>, namespace: string, name: string, body: Record<string, unknown>): void {
    const stored = this.#find(resource, namespace, name);
    const object = copy(stored.object);
    mergePatch(object, body);
    this.#store('modified', { ...stored, object });
  }

  /** What a kubelet does once a pod has ended: it is gone. */
  remove<T extends KubeObject>(resource: Resource<T>, namespace: string, name: string): void {
    const stored = this.#find(resource, namespace, name);
    this.#objects.delete(stored.path);
    this.#store('deleted', stored);
  }

  /** As it is stored, all of its fields; null where there is none. */
  raw<T extends KubeObject>(resource: Resource<T>, namespace: string, name: string): Record<string, unknown> | null {
    const stored = this.#objects.get(resourcePath(resource, namespace, name));
    return stored === undefined ? null : copy(stored.object);
  }

  /** Watches that are open. */
  get watching(): number {
    return this.#watchers.size;
  }

  /** A bookmark to every watch. */
  bookmark(): void {
    this.#last += 1;
    this.#changes.push({ version: this.#last, type: 'modified', path: '', namespace: '', object: { metadata: {} }, before: null });
    this.#wake();
  }

  /** Ends every watch: as a server does from time to time, or broken off. */
  endWatches(how: 'end' | 'cut' | 'stall'): void {
    for (const watcher of this.#watchers) {
      if (how === 'end') watcher.end = true;
      else if (how === 'stall') watcher.stalled = true;
      else watcher.cut = new KubeUnreachable('a stream of the API server broke off: reset');
    }
    this.#wake();
  }

  /** Forgets all versions up to now: whoever goes on from one of them is told that it has expired. */
  expire(): void {
    this.#last += 1;
    this.expireBeforeLast();
    this.#changes.length = 0;
  }

  /** Forgets all versions but the last. */
  expireBeforeLast(): void {
    this.#oldest = this.#last;
  }

  #store(type: Change['type'], stored: Stored): RawObject {
    const before = this.#objects.get(stored.path)?.object ?? null;
    this.#last += 1;
    const object = copy(stored.object);
    object.metadata.resourceVersion = String(this.#last);
    if (type !== 'deleted') this.#objects.set(stored.path, { ...stored, object });
    this.#changes.push({ version: this.#last, type, path: stored.path, namespace: stored.namespace, object, before });
    this.#wake();
    return copy(object);
  }

  #find<T extends KubeObject>(resource: Resource<T>, namespace: string, name: string): Stored {
    const stored = this.#objects.get(resourcePath(resource, namespace, name));
    if (stored === undefined) throw new KubeError(`${resource.plural} "${name}" not found`, 404, 'NotFound');
    return stored;
  }

  #fence<T extends KubeObject>(stored: Stored, version: unknown, resource: Resource<T>, name: string): void {
    if (version === undefined || version === '' || version === stored.object.metadata.resourceVersion) return;
    const message = `Operation cannot be fulfilled on ${resource.plural} "${name}": the object has been modified; please apply your changes to the latest version and try again`;
    throw new KubeError(message, 409, 'Conflict');
  }

  async #request<T extends KubeObject>(verb: string, resource: Resource<T>, namespace: string, name?: string): Promise<void> {
    this.#count(verb.split(' ')[0]!);
    await this.fault?.(verb, resourcePath(resource, namespace, name));
  }

  #count(verb: string): void {
    this.requests.set(verb, (this.requests.get(verb) ?? 0) + 1);
  }

  #wake(): void {
    for (const watcher of this.#watchers) watcher.wake();
  }
}

const copy = <T>(value: T): T => structuredClone(value);

/** There is a kubelet to confirm its end: it was given to a node, and has not ended. */
function runsOnNode({ spec, status }: RawObject): boolean {
  const phase: unknown = isObject(status) ? status.phase : undefined;
  return isObject(spec) && spec.nodeName !== undefined && phase !== 'Failed' && phase !== 'Succeeded';
}

/** In so many seconds, as the API writes times. */
const timestamp = (seconds: number): string => new Date(Date.now() + seconds * 1_000).toISOString().replace(/\.\d+Z$/, 'Z');

function isOf<T extends KubeObject>(stored: { path: string; namespace: string }, resource: Resource<T>, namespace: string): boolean {
  return stored.path.startsWith(`${resourcePath(resource, stored.namespace)}/`) && (namespace === '' || stored.namespace === namespace);
}

/** An object that comes to match a selector is added, one that ceases to is deleted, as the API has it. */
function eventOf<T extends KubeObject>(change: Change, resource: Resource<T>, namespace: string, selector: Selector): WatchEvent<T> | null {
  if (!isOf(change, resource, namespace)) return null;
  const is = change.type !== 'deleted' && matches(change.object, selector);
  const was = change.before !== null || change.type === 'deleted' ? matches(change.before ?? change.object, selector) : false;
  if (!is && !was) return null;
  const object = resource.schema.parse(copy(change.object));
  return { type: is ? (was ? 'modified' : 'added') : 'deleted', object };
}

/** `a=b,c!=d,e` over labels; `metadata.name=x` over fields. */
function matches(object: RawObject, { labels, fields }: Selector): boolean {
  const have: Record<string, unknown> = Object(object.metadata.labels ?? {});
  const term = (text: string, value: (key: string) => unknown): boolean => {
    const [, key = '', operator, wanted = ''] = /^([^=!]+)(?:(!=|==|=)(.*))?$/.exec(text) ?? [];
    if (operator === undefined) return value(key) !== undefined;
    return (value(key) === wanted) === (operator !== '!=');
  };
  const all = (text: string | undefined, value: (key: string) => unknown) =>
    (text ?? '').split(',').every((each) => each === '' || term(each, value));
  return (
    all(labels, (key) => have[key]) && all(fields, (key) => key.split('.').reduce<unknown>((at, part) => Object(at ?? {})[part], object))
  );
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** RFC 7396. Good for a strategic patch as far as it has no lists. */
function mergePatch(target: Record<string, unknown>, patch: Record<string, unknown>): void {
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete target[key];
    else if (key === 'resourceVersion') continue;
    else if (isObject(value)) {
      const inner = target[key];
      const into = isObject(inner) ? inner : {};
      target[key] = into;
      mergePatch(into, value);
    } else target[key] = copy(value);
  }
}

/** RFC 6902 over objects: what a list needs is not here. */
function jsonPatch(target: Record<string, unknown>, steps: Extract<Patch, { type: 'json' }>['body']): void {
  for (const { op, path, value } of steps) {
    const parts = path
      .split('/')
      .slice(1)
      .map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'));
    const last = parts.pop() ?? '';
    let at = target;
    for (const part of parts) {
      const next = at[part];
      if (!isObject(next)) throw new KubeError(`the path ${path} is not there`, 422, 'Invalid');
      at = next;
    }
    if (op === 'test' && JSON.stringify(at[last]) !== JSON.stringify(value))
      throw new KubeError(`the server rejected our request due to an error in our request`, 422, 'Invalid');
    if (op === 'add' || op === 'replace') at[last] = copy(value);
    if (op === 'remove') delete at[last];
  }
}
