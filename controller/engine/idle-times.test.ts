import { describe, expect, it } from 'vitest';
import { VirtualClock } from '#kit/clock.ts';
import { silentLog } from '#kit/log.ts';
import { observe } from '../core/keep-alive/history.ts';
import { World } from '../core/world.ts';
import { IN_MEMORY, openSqliteStore } from '../store/sqlite/store.ts';
import { IdleTimes } from './idle-times.ts';

const HELLO = new Set(['default/hello']);

describe('when functions are used', () => {
  it('is known to the next controller, but for those that are gone or damaged', async () => {
    const store = openSqliteStore({ path: IN_MEMORY, log: silentLog });
    const clock = new VirtualClock();
    const controller = () => {
      const world = new World();
      return { world, idleTimes: new IdleTimes({ world, store, clock, log: silentLog }) };
    };
    const first = controller();
    await first.idleTimes.start(HELLO);
    const use = first.world.useOf('default', 'hello');
    observe(use.history, 300_000);
    Object.assign(use, { changed: true, idleSince: clock.now() });
    Object.assign(first.world.useOf('default', 'gone'), { changed: true });
    await first.idleTimes.close();
    expect([...(await store.loadIdleTimes()).keys()]).toEqual(['default/gone', 'default/hello']);
    expect(use.changed).toBe(false);

    clock.advance(5_000);
    const second = controller();
    await second.idleTimes.start(HELLO);
    const known = second.world.useOf('default', 'hello');
    expect(known.history).toEqual(use.history);
    expect(clock.now() - known.idleSince!).toBe(5_000);
    await second.idleTimes.close();
    expect([...(await store.loadIdleTimes()).keys()]).toEqual(['default/hello']);

    await store.saveIdleTimes({ set: new Map([['default/hello', '{"history":"[]","idleSince":null}']]), remove: [] });
    const third = controller();
    await third.idleTimes.start(HELLO);
    expect(third.world.uses.size).toBe(0);
    third.world.uses.clear();
    third.idleTimes.removed('default', 'hello');
    await third.idleTimes.close();
    expect((await store.loadIdleTimes()).size).toBe(0);
    await store.close();
  });
});
