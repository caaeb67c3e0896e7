import { beforeEach, describe, expect, it } from 'vitest';
import { VirtualClock } from '#kit/clock.ts';
import { isApiServerAway, KubeLease, LEASES } from './lease.ts';
import { type KubeApi, KubeError, KubeUnreachable, type KubeObject, type Manifest, type Resource } from './types.ts';

const TTL_MS = 6_000;

/** As much of an API server as a Lease needs: one object, replaced by its version only. */
class OneObject implements Pick<KubeApi, 'get' | 'create' | 'replace'> {
  manifest: Manifest | null = null;
  version = 0;
  /** Run between what a candidate reads and what it writes. */
  meanwhile: (() => Promise<unknown>) | null = null;
  failure: Error | null = null;
  /** The next write is done, and its answer lost. */
  loseAnswer = false;

  /** What reading takes. */
  passes: () => void = () => {};

  async get<T extends KubeObject>({ schema }: Resource<T>): Promise<T> {
    this.passes();
    if (this.failure) throw this.failure;
    if (this.manifest === null) throw new KubeError('leases "leader" not found', 404, 'NotFound');
    const found = schema.parse(structuredClone(this.manifest));
    const { meanwhile } = this;
    this.meanwhile = null;
    await meanwhile?.();
    return found;
  }

  async create<T extends KubeObject>({ schema }: Resource<T>, _namespace: string, manifest: Manifest): Promise<T> {
    if (this.manifest !== null) throw new KubeError('it is there', 409, 'AlreadyExists');
    return schema.parse(this.#put(manifest));
  }

  async replace<T extends KubeObject>({ schema }: Resource<T>, _namespace: string, _name: string, manifest: Manifest): Promise<T> {
    if (this.failure) throw this.failure;
    if (this.manifest?.metadata.resourceVersion !== manifest.metadata.resourceVersion)
      throw new KubeError('it has changed', 409, 'Conflict');
    return schema.parse(this.#put(manifest));
  }

  #put(manifest: Manifest): Manifest {
    this.version += 1;
    this.manifest = { ...manifest, metadata: { uid: 'u-1', ...manifest.metadata, resourceVersion: String(this.version) } };
    if (this.loseAnswer) {
      this.loseAnswer = false;
      throw new KubeUnreachable('reset');
    }
    return structuredClone(this.manifest);
  }

  get spec(): Record<string, unknown> {
    return LEASES.schema.parse(this.manifest).spec;
  }
}

let api: OneObject;
let clock: VirtualClock;
/** Each process has a clock and memory of its own. */
const process = (own = clock) => new KubeLease({ api, namespace: 'fn', name: 'leader', clock: own });
beforeEach(() => {
  api = new OneObject();
  clock = new VirtualClock();
});

describe('a Lease of Kubernetes', () => {
  it('is made by the first, renewed by it, and taken over when it was not renewed; the record says so', async () => {
    const [a, b] = [process(), process()];
    expect(await b.leader()).toBeNull();
    expect([await a.campaign('a', TTL_MS), await b.campaign('b', TTL_MS)]).toEqual([true, false]);
    const first = api.spec;
    expect(first).toMatchObject({ holderIdentity: 'a', leaseDurationSeconds: 6, leaseTransitions: 0 });
    expect(first.renewTime).toMatch(/^2026-01-01T00:00:00\.000\d{3}Z$/);
    clock.advance(2_000);
    expect(await a.campaign('a', TTL_MS)).toBe(true);
    expect(api.spec).toMatchObject({ holderIdentity: 'a', acquireTime: first.acquireTime, leaseTransitions: 0 });
    expect(api.spec.renewTime).not.toBe(first.renewTime);
    expect(await b.campaign('b', TTL_MS)).toBe(false);
    clock.advance(TTL_MS - 1);
    expect([await b.campaign('b', TTL_MS), await b.leader()]).toEqual([false, 'a']);
    clock.advance(1);
    expect(await b.leader()).toBeNull();
    expect(await b.campaign('b', TTL_MS)).toBe(true);
    expect(api.spec).toMatchObject({ holderIdentity: 'b', leaseTransitions: 1 });
    expect(await a.campaign('a', TTL_MS)).toBe(false);
  });

  it('is over by the clock of who waits, from when it saw it change: wall clocks that differ change nothing', async () => {
    const ahead = new VirtualClock(Date.UTC(2036, 0, 1));
    const [a, b] = [process(), process(ahead)];
    await a.campaign('a', TTL_MS);
    expect(await b.campaign('b', TTL_MS)).toBe(false);
    clock.advance(60_000);
    ahead.advance(TTL_MS - 1);
    ahead.jumpWall(-3_600_000);
    expect(await b.campaign('b', TTL_MS)).toBe(false);
    ahead.advance(1);
    expect(await b.campaign('b', TTL_MS)).toBe(true);
  });

  it('one that has just come waits for a whole term, however old the record says that it is', async () => {
    await process().campaign('a', TTL_MS);
    clock.advance(86_400_000);
    const late = process();
    expect(await late.campaign('b', TTL_MS)).toBe(false);
    clock.advance(TTL_MS);
    expect(await late.campaign('b', TTL_MS)).toBe(true);
  });

  it('renewals in one millisecond are renewals', async () => {
    const [a, b] = [process(), process()];
    await a.campaign('a', TTL_MS);
    await b.campaign('b', TTL_MS);
    const times = new Set<unknown>();
    for (let n = 0; n < 100; n += 1) {
      await a.campaign('a', TTL_MS);
      times.add(api.spec.renewTime);
    }
    expect(times.size).toBe(100);
  });

  it('of many that want it at once, one gets it', async () => {
    await process().campaign('old', TTL_MS);
    const all = Array.from({ length: 8 }, () => process());
    await Promise.all(all.map((one) => one.leader()));
    clock.advance(TTL_MS);
    const won = await Promise.all(all.map((one, index) => one.campaign(`c-${index}`, TTL_MS)));
    expect(won.filter(Boolean)).toHaveLength(1);
    expect(api.spec.holderIdentity).toBe(`c-${won.indexOf(true)}`);
  });

  it('of two that make it at once, one gets it', async () => {
    expect((await Promise.all([process().campaign('a', TTL_MS), process().campaign('b', TTL_MS)])).toSorted()).toEqual([false, true]);
  });

  it('who loses the race for one that is over sees the winner, and waits for its time', async () => {
    const [old, a, b] = [process(), process(), process()];
    await old.campaign('old', TTL_MS);
    await Promise.all([a.leader(), b.leader()]);
    clock.advance(TTL_MS);
    api.meanwhile = () => b.campaign('b', TTL_MS);
    expect(await a.campaign('a', TTL_MS)).toBe(false);
    expect(await a.leader()).toBe('b');
  });

  it("who labels the object takes nobody's lease, is no renewal, and its labels stay", async () => {
    const [a, b] = [process(), process()];
    await a.campaign('a', TTL_MS);
    await b.campaign('b', TTL_MS);
    const label = async () => {
      const { metadata } = api.manifest!;
      await api.replace(LEASES, 'fn', 'leader', {
        ...api.manifest!,
        metadata: { ...metadata, labels: { team: 'x' }, generation: api.version },
      });
    };
    clock.advance(TTL_MS - 1);
    await label();
    clock.advance(1);
    expect(await b.leader()).toBeNull();
    api.meanwhile = label;
    expect(await a.campaign('a', TTL_MS)).toBe(true);
    expect(api.manifest?.metadata.labels).toEqual({ team: 'x' });
  });

  it('is given up by who has it only, at once and without losing what it says of how often it was taken', async () => {
    const [a, b] = [process(), process()];
    await a.campaign('a', TTL_MS);
    await b.resign('b');
    expect(await b.leader()).toBe('a');
    api.meanwhile = () => a.campaign('a', TTL_MS);
    await a.resign('a');
    await a.resign('a');
    expect([await b.leader(), await b.campaign('b', TTL_MS)]).toEqual([null, true]);
    expect(api.spec).toMatchObject({ holderIdentity: 'b', leaseTransitions: 1 });
  });

  it('a write whose answer was lost is found by the next call', async () => {
    const a = process();
    api.loseAnswer = true;
    await expect(a.campaign('a', TTL_MS)).rejects.toThrow(KubeUnreachable);
    expect(await a.campaign('a', TTL_MS)).toBe(true);
    expect(api.spec).toMatchObject({ holderIdentity: 'a', leaseTransitions: 0 });
  });

  it('that was deleted is made anew by who asks first', async () => {
    const [a, b] = [process(), process()];
    await a.campaign('a', TTL_MS);
    api.manifest = null;
    expect([await b.campaign('b', TTL_MS), await a.campaign('a', TTL_MS)]).toEqual([true, false]);
  });

  it('passes on what the API server says, and tells which of it means that it is away', async () => {
    for (const [failure, away] of [
      [new KubeUnreachable('refused'), true],
      [new KubeError('etcdserver: request timed out', 500, 'InternalError'), true],
      [new KubeError('no endpoints', 503, 'ServiceUnavailable'), true],
      [new KubeError('leases is forbidden', 403, 'Forbidden'), false],
      [new KubeError('slow down', 429, 'TooManyRequests'), false],
    ] as const) {
      api.failure = failure;
      await expect(process().campaign('a', TTL_MS)).rejects.toBe(failure);
      expect(isApiServerAway(failure)).toBe(away);
    }
    expect(isApiServerAway(new Error('a bug'))).toBe(false);
  });

  it('ends where it is changed by others all the time, and says so', async () => {
    const a = process();
    await a.campaign('a', TTL_MS);
    const get = api.get.bind(api);
    api.get = async (...asked) => {
      const found = await get(...asked);
      api.version += 1;
      api.manifest!.metadata.resourceVersion = String(api.version);
      return found;
    };
    await expect(a.campaign('a', TTL_MS)).rejects.toMatchObject({ reason: 'Conflict' });
  });

  it('is not taken at once when the API server is back: meanwhile who holds it could not renew it', async () => {
    const [a, b] = [process(), process()];
    await a.campaign('a', TTL_MS);
    expect(await b.campaign('b', TTL_MS)).toBe(false);
    // Away, and told so; or hung, and the last question is answered in the end.
    api.failure = new KubeUnreachable('no answer');
    await expect(b.campaign('b', TTL_MS)).rejects.toThrow('no answer');
    clock.advance(60_000);
    api.failure = null;
    expect(await b.campaign('b', TTL_MS)).toBe(false);
    expect(await a.campaign('a', TTL_MS)).toBe(true);
    expect(await b.campaign('b', TTL_MS)).toBe(false);
    api.passes = () => clock.advance(10_000);
    expect(await b.campaign('b', TTL_MS)).toBe(false);
    api.passes = () => {};
    clock.advance(TTL_MS - 1);
    expect(await b.campaign('b', TTL_MS)).toBe(false);
    // Whoever does not renew it then has it no more.
    clock.advance(1);
    expect(await b.campaign('b', TTL_MS)).toBe(true);
  });
});
