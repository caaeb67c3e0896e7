import { setImmediate as turn } from 'node:timers/promises';
import { beforeEach, describe, expect, it } from 'vitest';
import { VirtualClock } from '#kit/clock.ts';
import { silentLog } from '#kit/log.ts';
import { LEADER, LeaderLabel, ROLE_LABEL } from './leader-label.ts';
import { type KubeApi, KubeError, KubeUnreachable, type KubeObject, type Patch, type Resource, type Selector } from './types.ts';

const RELEASE = { 'app.kubernetes.io/instance': 'fn', 'app.kubernetes.io/component': 'controller' };

/** Pods and their labels, as the API server has them. */
class Pods implements Pick<KubeApi, 'get' | 'list' | 'patch'> {
  readonly labels = new Map<string, Record<string, string>>();
  failure: Error | null = null;
  patches = 0;

  add(name: string, labels: Record<string, string> = {}): void {
    this.labels.set(name, { ...RELEASE, ...labels });
  }

  get leaders(): string[] {
    return [...this.labels].filter(([, labels]) => labels[ROLE_LABEL] === LEADER).map(([name]) => name);
  }

  async get<T extends KubeObject>({ schema }: Resource<T>, _namespace: string, name: string): Promise<T> {
    return schema.parse({ metadata: { name, labels: this.#of(name) } });
  }

  async list<T extends KubeObject>({ schema }: Resource<T>, _namespace: string, selector: Selector = {}) {
    if (this.failure) throw this.failure;
    const wanted = (selector.labels ?? '').split(',').map((one) => one.split('='));
    const found = [...this.labels].filter(([, labels]) => wanted.every(([key, value]) => labels[key!] === value));
    return { items: found.map(([name, labels]) => schema.parse({ metadata: { name, labels } })), resourceVersion: '1' };
  }

  async patch<T extends KubeObject>({ schema }: Resource<T>, _namespace: string, name: string, { type, body }: Patch): Promise<T> {
    const labels = { ...this.#of(name) };
    if (type !== 'merge') throw new Error('another patch than was expected');
    const { metadata } = body as { metadata: { labels: Record<string, string | null> } };
    for (const [key, value] of Object.entries(metadata.labels))
      if (value === null) delete labels[key];
      else labels[key] = value;
    this.labels.set(name, labels);
    this.patches += 1;
    return schema.parse({ metadata: { name, labels } });
  }

  #of(name: string): Record<string, string> {
    if (this.failure) throw this.failure;
    const labels = this.labels.get(name);
    if (labels === undefined) throw new KubeError(`pods "${name}" not found`, 404, 'NotFound');
    return labels;
  }
}

let pods: Pods;
let clock: VirtualClock;
let leading: boolean;
const labelOf = (pod: string) =>
  new LeaderLabel({ api: pods, self: { namespace: 'fn', pod }, leads: async () => leading, clock, log: silentLog });
const settle = async () => {
  for (let n = 0; n < 20; n += 1) await turn();
};

beforeEach(() => {
  pods = new Pods();
  clock = new VirtualClock();
  leading = true;
  pods.add('a');
  pods.add('b');
});

describe('the label of the leader', () => {
  it('is taken from the others at once, and taken only when the leader listens', async () => {
    pods.add('a', { [ROLE_LABEL]: LEADER });
    pods.labels.set('of-another-release', { ...RELEASE, 'app.kubernetes.io/instance': 'other', [ROLE_LABEL]: LEADER });
    const label = labelOf('b');
    label.start();
    await settle();
    expect(pods.leaders).toEqual(['of-another-release']);
    label.listens();
    await settle();
    expect(pods.leaders).toEqual(['b', 'of-another-release']);
    await label.close();
    await label.close();
    expect(pods.leaders).toEqual(['of-another-release']);
    expect(pods.labels.get('b')).toEqual(RELEASE);
  });

  it('is put right when somebody changed it, and left alone when it is right', async () => {
    const label = labelOf('b');
    label.listens();
    await settle();
    expect([pods.leaders, pods.patches]).toEqual([['b'], 1]);
    clock.advance(30_000);
    await settle();
    expect(pods.patches).toBe(1);
    pods.add('a', { [ROLE_LABEL]: LEADER });
    pods.add('b');
    clock.advance(30_000);
    await settle();
    expect(pods.leaders).toEqual(['b']);
    await label.close();
  });

  it('waits for an API server that is away', async () => {
    pods.failure = new KubeUnreachable('refused');
    const label = labelOf('b');
    label.start();
    label.listens();
    await settle();
    for (let n = 0; n < 10; n += 1) {
      clock.advance(10_000);
      await settle();
    }
    expect(pods.leaders).toEqual([]);
    pods.failure = null;
    clock.advance(10_000);
    await settle();
    expect(pods.leaders).toEqual(['b']);
    await label.close();
  });

  it('is not touched by one that leads no more', async () => {
    const label = labelOf('b');
    label.listens();
    await settle();
    leading = false;
    pods.add('b');
    pods.add('a', { [ROLE_LABEL]: LEADER });
    clock.advance(30_000);
    await settle();
    expect(pods.leaders).toEqual(['a']);
  });

  it('of a pod without the labels of a release is its own matter', async () => {
    pods.labels.set('b', {});
    pods.add('a', { [ROLE_LABEL]: LEADER });
    const label = labelOf('b');
    label.listens();
    await settle();
    expect(pods.leaders).toEqual(['a', 'b']);
    await label.close();
  });

  it('where the API server is away at the end, close() resolves all the same', async () => {
    const label = labelOf('b');
    label.listens();
    await settle();
    pods.failure = new KubeUnreachable('refused');
    await label.close();
    expect(pods.leaders).toEqual(['b']);
  });

  it('of one that never listened is not looked for at the end', async () => {
    const label = labelOf('b');
    label.start();
    await settle();
    await label.close();
    expect(pods.patches).toBe(0);
  });
});
