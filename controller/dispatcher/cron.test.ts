import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { FnError } from '#contract/errors.ts';
import { AsyncSettings, EventId } from '#contract/events.ts';
import { CronTrigger } from '#contract/trigger.ts';
import { VirtualClock } from '#kit/clock.ts';
import { range } from '../../test/helpers/wait.ts';
import { CronRunner, MAX_MISSED, dueTicks } from './cron.ts';
import { decodePayload } from './payload.ts';
import { TestHost, functionOf } from './trigger-testing.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const NOON = Date.UTC(2026, 10, 21, 12);
const of = functionOf({}, AsyncSettings.parse({}));

let clock: VirtualClock;
let host: TestHost;
const runners: CronRunner[] = [];

function run(more: object = {}, at: TestHost = host): CronRunner {
  const trigger = CronTrigger.parse({ type: 'cron', name: 'tick', schedule: '0 * * * *', ...more });
  const runner = new CronRunner({ host: at, of, trigger });
  runners.push(runner);
  runner.start();
  return runner;
}

/** Lets what was begun settle, then moves on by steps that are shorter than any timer of the schedule. */
async function pass(ms: number, step = 10_000): Promise<void> {
  for (let done = 0; done <= ms; done += step) {
    clock.advance(done === 0 ? 0 : step);
    for (let turn = 0; turn < 20; turn++) await Promise.resolve();
  }
}
const fired = (): string[] =>
  host.enqueued.map((event) => {
    const { headers } = decodePayload(event.payload);
    return headers[headers.indexOf('ce-scheduledtime') + 1]!.slice(11, 16);
  });

beforeEach(() => {
  clock = new VirtualClock(NOON - 30 * MINUTE);
  host = new TestHost(clock);
});
afterEach(() => Promise.all(runners.splice(0).map((runner) => runner.close())));

describe('a schedule that runs', () => {
  it('fires each tick once, as an event of the lane', async () => {
    const runner = run({ data: { report: 'daily' }, path: '/tick', timezone: 'Europe/Berlin' });
    await pass(3 * HOUR);
    expect(fired()).toEqual(['12:00', '13:00', '14:00']);
    const [event] = host.enqueued;
    expect(EventId.safeParse(event!.id).success).toBe(true);
    expect(event).toMatchObject({ lane: 'default/orders', trigger: 'tick', expiresAt: event!.createdAt + 21_600_000 });
    const { kind, path, headers, body } = decodePayload(event!.payload);
    expect([kind, path, body.toString()]).toEqual(['schedule', '/tick', '{"report":"daily"}']);
    const of = (name: string) => headers[headers.indexOf(name) + 1];
    expect([of('ce-type'), of('ce-cron'), of('ce-timezone'), of('ce-id')]).toEqual([
      'fn.schedule',
      '0%20*%20*%20*%20*',
      'Europe/Berlin',
      event!.id,
    ]);
    expect(runner.status()).toMatchObject({ state: 'running', succeeded: 3, nextAt: NOON + 3 * HOUR });
  });

  it('fires nothing at its start', async () => {
    run();
    await pass(20 * MINUTE);
    expect(fired()).toEqual([]);
  });

  it('fires once with two dispatchers, and after a restart', async () => {
    run();
    run();
    await pass(HOUR);
    run();
    await pass(MINUTE);
    expect(fired()).toEqual(['12:00']);
  });

  it('fires later what could not be enqueued', async () => {
    const runner = run();
    await pass(MINUTE);
    host.away = new FnError('store-unavailable', 'the store is away');
    await pass(30 * MINUTE);
    expect(runner.status()).toMatchObject({ state: 'failing', detail: 'the store is away' });
    host.away = null;
    await pass(2 * MINUTE);
    expect(fired()).toEqual(['12:00']);
    expect(runner.status()).toMatchObject({ state: 'running', detail: null });
  });
});

describe('a clock that jumps', () => {
  it('forward by an hour fires once', async () => {
    run();
    await pass(MINUTE);
    clock.jumpWall(HOUR);
    await pass(2 * MINUTE);
    expect(fired()).toEqual(['12:00']);
    await pass(HOUR);
    expect(fired()).toEqual(['12:00', '13:00']);
  });

  it('back by an hour fires nothing again', async () => {
    run();
    await pass(31 * MINUTE);
    expect(fired()).toEqual(['12:00']);
    clock.jumpWall(-HOUR);
    await pass(HOUR + 10 * MINUTE);
    expect(fired()).toEqual(['12:00']);
    await pass(HOUR);
    expect(fired()).toEqual(['12:00', '13:00']);
  });

  it('years ahead and back again does not end the schedule', async () => {
    run();
    await pass(MINUTE);
    clock.jumpWall(1_000 * 24 * HOUR);
    await pass(2 * MINUTE);
    clock.jumpWall(-1_000 * 24 * HOUR);
    const before = host.enqueued.length;
    await pass(HOUR);
    expect(fired().slice(before)).toEqual(['12:00']);
  });
});

describe('ticks that were missed', () => {
  const at = (minutes: number) => NOON + minutes * MINUTE;
  const due = (missed: 'skip' | 'once' | 'all', last: number, now: number) =>
    dueTicks({ schedule: '*/10 * * * *', timezone: 'UTC', missed }, last, now).map((tick) => (tick - NOON) / MINUTE);

  it('are skipped, made up for once, or all', () => {
    expect([due('skip', at(0), at(45)), due('once', at(0), at(45)), due('all', at(0), at(45))]).toEqual([[], [40], [10, 20, 30, 40]]);
  });

  it('go with the one that is due now', () => {
    const now = at(50) + 20_000;
    expect([due('skip', at(0), now), due('once', at(0), now), due('all', at(0), now)]).toEqual([[50], [40, 50], [10, 20, 30, 40, 50]]);
  });

  it('are a hundred at most, the latest', () => {
    const ticks = due('all', at(0), at(10 * 500) + 5 * MINUTE);
    expect(ticks).toEqual(range(MAX_MISSED).map((n) => (500 - MAX_MISSED + 1 + n) * 10));
  });

  it('are made up for when the platform comes back, once', async () => {
    run({ missed: 'once' });
    await pass(MINUTE);
    await runners[0]!.close();
    clock.jumpWall(5 * HOUR + 10 * MINUTE);
    run({ missed: 'once' });
    await pass(MINUTE);
    expect(fired()).toEqual(['16:00']);
  });

  it('are none where the schedule is another one now', async () => {
    run({ missed: 'all' });
    await pass(MINUTE);
    await runners[0]!.close();
    clock.jumpWall(5 * HOUR);
    run({ missed: 'all', schedule: '30 * * * *' });
    await pass(MINUTE);
    expect(fired()).toEqual([]);
  });
});
