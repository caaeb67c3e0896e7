import { describe, expect, it } from 'vitest';
import { CallRecord } from '#contract/call.ts';
import { FLUSH_ONLY, GatewayMessage } from '#contract/link.ts';
import { VirtualClock } from '#kit/clock.ts';
import { CallJournal, type EndedCall, type JournalLimits, SHIP_EVERY_MS } from './journal.ts';
import { CallTally } from './tally.ts';
import { endedCall } from './testing.ts';

const LIMITS: JournalLimits = { ring: 100, notablePerSecond: 200, sampledPerSecond: 5, slowMs: 1_000 };
const TRACE = '0af7651916cd43dd8448eb211c80319c';

function setup(limits: Partial<JournalLimits> = {}) {
  const clock = new VirtualClock();
  clock.advance(10_000);
  const sent: Extract<GatewayMessage, { type: 'calls' }>[] = [];
  let linked = true;
  const journal = new CallJournal({
    gateway: 'g',
    clock,
    limits: { ...LIMITS, ...limits },
    tally: new CallTally(),
    send: (message) => {
      if (!linked) return false;
      // What is sent must be what the link allows: the controller cuts off a gateway that says anything else.
      const checked = GatewayMessage.parse(JSON.parse(JSON.stringify(message)));
      if (checked.type === 'calls') sent.push(checked);
      return true;
    },
  });
  const trace = { traceId: TRACE, parent: null, flags: '01', span: null, spare: null };
  const call = (id: string, overrides: Partial<EndedCall> = {}) =>
    endedCall(clock.now(), { id, traceparent: `00-${TRACE}-00f067aa0ba902b7-01`, trace, ...overrides });
  const end = (id: string, overrides: Partial<EndedCall> = {}) => journal.ended(call(id, overrides), clock.now());
  const records = () => sent.flatMap(({ calls }) => calls);
  const skipped = () => sent.reduce((sum, message) => sum + message.skipped, 0);
  return { clock, journal, end, sent, records, skipped, link: (up: boolean) => (linked = up) };
}

describe('the record of a request', () => {
  it('has each phase with its time, and no query', () => {
    const { clock, journal, end } = setup();
    end('r-1', { askedAt: clock.now() - 9.5 });
    expect(journal.recall('r-1')).toEqual([
      {
        id: 'r-1',
        t: clock.wall() - 10,
        gateway: 'g',
        namespace: 'default',
        name: 'hello',
        revision: 'default/hello@1',
        instance: 'i-aaaaaaaaaaaa',
        method: 'GET',
        path: '/hello',
        status: 200,
        traceId: TRACE,
        bodyMs: 0.5,
        queueMs: 0.5,
        handlerMs: 7,
        streamMs: 2,
        totalMs: 10,
      },
    ]);
  });

  it('leaves out what it did not come to', () => {
    const { journal, end } = setup();
    const none = { askedAt: null, sentAt: null, headAt: null, instance: null, traceparent: null, revision: null };
    end('r-1', { ...none, status: 413, problem: { code: 'body-too-large', detail: 'x'.repeat(5_000) } });
    const [record] = journal.recall('r-1');
    expect(CallRecord.parse(record)).toEqual(record);
    expect(Object.keys(record!).toSorted()).toEqual(
      ['bodyMs', 'code', 'detail', 'gateway', 'id', 'method', 'name', 'namespace', 'path', 'status', 't', 'totalMs'].toSorted(),
    );
    expect(record!.detail).toHaveLength(1_000);
  });

  it('cuts a long path', () => {
    const { journal, end } = setup();
    end('r-1', { path: `/${'p'.repeat(8_000)}?q` });
    expect(journal.recall('r-1')[0]!.path).toHaveLength(512);
  });

  it('is found by its id and by its trace, the newest first, as long as the ring holds it', () => {
    const { journal, end } = setup({ ring: 3 });
    end('a', { path: '/1' });
    end('b', { path: '/2', traceparent: null });
    end('a', { path: '/3' });
    expect(journal.recall('a').map(({ path }) => path)).toEqual(['/3', '/1']);
    expect(journal.recall(TRACE).map(({ path }) => path)).toEqual(['/3', '/1']);
    end('c', { traceparent: null });
    expect(journal.recall('a').map(({ path }) => path)).toEqual(['/3']);
    expect(journal.recall('nobody')).toEqual([]);
  });

  it('is what it was in whichever place of the ring, short or long', () => {
    const { journal, end } = setup({ ring: 2 });
    const ids = ['x', 'y'.repeat(90), 'z'.repeat(200), 'x1-1', 'x2-1', 'a'.repeat(95), 'b'.repeat(32)];
    for (const id of ids) {
      for (const path of ['/', '/12345', '/123456', `/${'p'.repeat(300)}`]) {
        end(id, { path: `${path}?q=1`, traceparent: null });
        expect(journal.recall(id).slice(0, 1)).toMatchObject([{ id, path }]);
        expect(journal.recall(`${id}1`)).toEqual([]);
        expect(journal.recall(id.replace(/./, 'q'))).toEqual([]);
      }
    }
  });
});

describe('one namespace among many', () => {
  const other = { namespace: 'other' };

  it('is remembered, however much the others do', () => {
    const { clock, journal, end } = setup({ ring: 10 });
    for (let n = 0; n < 50; n++) end(`mine-${n}`);
    for (let n = 0; n < 50; n++) end(`other-${n}`, other);
    clock.advance(1);
    const of = (name: string) => Array.from({ length: 50 }, (_, n) => `${name}-${n}`).filter((id) => journal.recall(id).length > 0);
    expect(of('mine')).toEqual(['mine-45', 'mine-46', 'mine-47', 'mine-48', 'mine-49']);
    expect(of('other')).toEqual(['other-45', 'other-46', 'other-47', 'other-48', 'other-49']);
    for (let n = 0; n < 50; n++) end(`third-${n}`, { namespace: 'third' });
    expect([of('mine').length, of('other').length, of('third').length].toSorted()).toEqual([3, 3, 4]);
    expect(of('third').at(-1)).toBe('third-49');
    // Of who has not been heard of for long the places are free again.
    clock.advance(3_600_000);
    for (let n = 0; n < 50; n++) end(`fourth-${n}`, { namespace: 'fourth' });
    expect(of('fourth')).toHaveLength(10);
  });

  it('where there are more of them than places, is remembered by its newest for a while', () => {
    const { journal, end } = setup({ ring: 2 });
    for (let n = 0; n < 5; n++) end(`r-${n}`, { namespace: `n${n}` });
    expect(journal.recall('r-4')).toHaveLength(1);
  });

  it('is found although another has used its ids again and again', () => {
    const { journal, end } = setup();
    end('a');
    for (let n = 0; n < 20; n++) end('a', other);
    const found = journal.recall('a');
    expect(found).toHaveLength(10);
    expect(found.filter(({ namespace }) => namespace === 'default')).toHaveLength(1);
  });

  it('is heard of, however much fails elsewhere, also after the link was down', () => {
    const { clock, end, records, link } = setup();
    for (let n = 0; n < 5_000; n++) end('flood', { ...other, status: 500 });
    end('mine', { status: 500 });
    clock.advance(SHIP_EVERY_MS);
    expect(records().filter(({ id }) => id === 'mine')).toHaveLength(1);
    link(false);
    for (let second = 0; second < 60; second++) {
      for (let n = 0; n < 500; n++) end('flood', { ...other, status: 500 });
      for (let n = 0; n < 10; n++) end('later', { status: 500 });
      clock.advance(1_000);
    }
    link(true);
    clock.advance(SHIP_EVERY_MS);
    expect(records().filter(({ id }) => id === 'later').length).toBeGreaterThanOrEqual(20);
    expect(records().length).toBeLessThanOrEqual(206 + 1_000 + 2 * 20);
  });
});

describe('the controller hears', () => {
  it('at once of what waits, where it asks', () => {
    const { journal, end, records } = setup();
    end('500', { status: 500 });
    journal.answer(FLUSH_ONLY);
    expect(records().map(({ id }) => id)).toEqual(['500']);
  });

  it('of all that failed, were cold or slow, and of a sample of the others, in batches', () => {
    const { clock, end, sent, records, skipped } = setup();
    for (let n = 0; n < 50; n++) end(`warm-${n}`);
    end('cold', { start: { kind: 'pooled', startMs: 1, initMs: 2, reason: 'burst' } });
    end('not-cold', { start: { kind: 'warm', startMs: 0, initMs: 0 } });
    end('500', { status: 500 });
    end('429', { status: 429, problem: { code: 'rate-limited', detail: 'x' } });
    end('gone', { status: 0, aborted: true });
    end('slow', { arrivedAt: clock.now() - 2_000 });
    end('long stream', { arrivedAt: clock.now() - 60_000, sentAt: clock.now() - 59_995, headAt: clock.now() - 59_990, stream: 'events' });
    expect(sent).toEqual([]);
    clock.advance(SHIP_EVERY_MS);
    expect(sent).toHaveLength(1);
    expect(records().map(({ id }) => id)).toEqual([
      ...Array.from({ length: 5 }, (_, n) => `warm-${n}`),
      ...['cold', '500', '429', 'gone', 'slow'],
    ]);
    expect(skipped()).toBe(47);
    clock.advance(10_000);
    expect(sent).toHaveLength(1);
  });

  it('of no more than the limits say, however much fails', () => {
    const { clock, end, records, skipped } = setup();
    for (let second = 0; second < 10; second++) {
      for (let n = 0; n < 5_000; n++) end('x', { status: 503 });
      clock.advance(1_000);
    }
    expect(records().length).toBeLessThanOrEqual((200 + 5) * 11);
    expect(records().length).toBeGreaterThan(200 * 8);
    expect(records().length + skipped()).toBe(50_000);
  });

  it('of what is counted once a second, or when somebody asks, though records come four times as often', () => {
    const { clock, journal, end, sent } = setup();
    const counted = () => sent.flatMap((message) => (message.counted === undefined ? [] : [message.counted]));
    for (let ms = 0; ms < 10_000; ms += 50) {
      end(`r-${ms}`);
      clock.advance(50);
      const newest = counted().at(-1);
      if (newest !== undefined) journal.counted(newest.seq);
    }
    expect([counted().length, sent.length]).toEqual([10, 40]);
    end('last');
    journal.answer(FLUSH_ONLY);
    const invocations = counted().flatMap(({ counts }) => counts.map((one) => one.invocations));
    expect([counted().length, invocations.reduce((sum, one) => sum + one, 0)]).toEqual([11, 201]);
  });

  it('later, where the link is down; what is too much is counted', () => {
    const { clock, end, records, skipped, link } = setup({ notablePerSecond: 10_000 });
    link(false);
    for (let n = 0; n < 3_000; n++) end('x', { status: 500 });
    clock.advance(60_000);
    expect(records()).toEqual([]);
    link(true);
    clock.advance(SHIP_EVERY_MS);
    expect(records()).toHaveLength(1_005);
    expect(skipped()).toBe(1_995);
  });
});
