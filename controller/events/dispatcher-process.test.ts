import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, it } from 'vitest';
import { createLog, type Log, silentLog } from '#kit/log.ts';
import { systemClock, type Clock } from '#kit/clock.ts';
import { waitFor } from '../../test/helpers/wait.ts';
import { type DispatcherConfig, DispatcherProcess, HUNG_MS } from './dispatcher-process.ts';

const FILE = fileURLToPath(new URL('../../test/helpers/fake-dispatcher.ts', import.meta.url));

interface Told {
  told: { owner?: string; retired?: string[]; functions?: string[]; set?: string[]; secrets: Record<string, string> }[];
  pid: number;
}

const open: DispatcherProcess[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((one) => one.close(0)));
});

function dispatcher({
  clock = systemClock,
  config,
  needed = true,
  log = createLog('controller', 'silent'),
}: { clock?: Clock; config?: () => Promise<DispatcherConfig>; needed?: boolean; log?: Log } = {}) {
  const one = new DispatcherProcess({
    file: FILE,
    env: { PATH: process.env.PATH },
    config: config ?? (async () => ({ installation: 'here', functions: [], secrets: { 'default/A': 'a' } })),
    needed: () => needed,
    clock,
    log,
  });
  open.push(one);
  return one;
}

const isTold = (value: unknown): value is Told => typeof value === 'object' && value !== null && 'told' in value && 'pid' in value;

/** The fake answers every question with what it was told. */
async function told(one: DispatcherProcess, name = 'f'): Promise<Told> {
  const answer: unknown = await one.ask('backlog', 'default', name);
  if (!isTold(answer)) throw new Error('the fake dispatcher says what it was told');
  return answer;
}

describe('the dispatcher’s process', () => {
  it('is started by the first question, and told of all first', async () => {
    const one = dispatcher();
    expect(one.pid).toBeNull();
    const { told: first, pid } = await told(one);
    expect(pid).toBe(one.pid);
    expect(first).toMatchObject([{ retired: [], functions: [], secrets: { 'default/A': 'a' } }]);
  });

  it('has no debugger that a signal opens: whoever connects to that has its secrets', async () => {
    expect(await dispatcher().ask('backlog', 'default', 'signalled')).toEqual({ debuggerUrl: null });
  });

  it('hears of changes, in their order', async () => {
    const one = dispatcher();
    await told(one);
    one.change({ set: [], remove: [{ namespace: 'default', name: 'gone', deleted: true }], secrets: {} });
    expect((await told(one)).told[1]).toEqual({ set: [], remove: [{ namespace: 'default', name: 'gone', deleted: true }], secrets: {} });
  });

  it('hears of what changes while it is being told of all', async () => {
    const config = Promise.withResolvers<DispatcherConfig>();
    const one = dispatcher({ config: () => config.promise });
    one.start();
    const remove = [{ namespace: 'default', name: 'gone', deleted: true }];
    one.change({ set: [], remove, secrets: {} });
    config.resolve({ installation: 'here', functions: [], secrets: {} });
    expect((await told(one)).told.slice(1)).toEqual([{ set: [], remove, secrets: {} }]);
  });

  it('is started again when it dies, told whose claims are free, and its questions are answered with events-unavailable', async () => {
    const one = dispatcher();
    const { told: before, pid } = await told(one);
    await expect(one.ask('backlog', 'default', 'die')).rejects.toMatchObject({ code: 'events-unavailable' });
    const after = await told(one);
    expect(after.pid).not.toBe(pid);
    expect(after.told[0]).toMatchObject({ retired: [before[0]!.owner] });
    expect(after.told[0]!.owner).not.toBe(before[0]!.owner);
  });

  it('throws what the dispatcher threw', async () => {
    await expect(dispatcher().ask('backlog', 'default', 'missing')).rejects.toMatchObject({
      code: 'invocation-not-found',
      message: 'not here',
    });
  });

  it('is ended when it is not heard any more, and another one started', async () => {
    // Its beats never come, and the controller's time runs a hundred times as fast.
    const fast: Clock = { ...systemClock, after: (ms, run) => systemClock.after(ms / 100, run) };
    const one = dispatcher({ clock: fast });
    one.start();
    const first = one.pid;
    const second = await waitFor('another process', () => one.pid !== null && one.pid !== first && one.pid);
    expect(second).not.toBe(first);
  });

  it('is not taken for hung by a controller that stood still itself: what it has said meanwhile is read first', async () => {
    const said: unknown[] = [];
    const fast: Clock = { ...systemClock, after: (ms, run) => systemClock.after(ms / 2, run) };
    const one = dispatcher({ clock: fast, log: { ...silentLog, error: (...what: unknown[]) => void said.push(what) } });
    const { pid } = await told(one);
    const answer = told(one);
    // As SIGSTOP does: twice as long as a silent one is believed in, at this clock's pace.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, (2 * HUNG_MS) / 2);
    expect((await answer).pid).toBe(pid);
    expect(said).toEqual([]);
  });

  it('is not started again where it ended because it was idle and nothing needs it', async () => {
    const one = dispatcher({ needed: false });
    await told(one);
    await one.close(0);
    expect(one.pid).toBeNull();
    await expect(one.ask('backlog', 'default', 'f')).rejects.toMatchObject({ code: 'events-unavailable' });
  });

  it('that cannot be told of the functions is tried again', async () => {
    let attempts = 0;
    const config = async () => {
      attempts += 1;
      if (attempts < 3) throw new Error('the store is away');
      return { installation: 'here', functions: [], secrets: {} };
    };
    await told(dispatcher({ config }));
    expect(attempts).toBe(3);
  });
});
