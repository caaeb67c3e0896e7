import { describe, expect, it } from 'vitest';
import type { CallRecord } from '#contract/call.ts';
import { ErrorCode } from '#contract/errors.ts';
import { FunctionSettings, type Revision } from '#contract/function.ts';
import type { LogEntry } from '#contract/log.ts';
import { placeIn } from './advice.ts';
import type { Evidence } from './evidence.ts';
import { explain } from './explain.ts';
import { testCall } from './testing.ts';

const INSTANCE = 'i-aaaaaaaaaaaa';
const KEY = 'default/hello@7';

const call = (overrides: Partial<CallRecord> = {}) => {
  const phases = { queueMs: 0.1, handlerMs: 4, streamMs: 0.5, totalMs: 4.6 };
  return testCall('r-1', { t: 1_000, revision: KEY, instance: INSTANCE, path: '/hello', ...phases, ...overrides });
};
const line = (msg: string, overrides: Partial<LogEntry> = {}): LogEntry => ({
  t: 1_002,
  level: 'error',
  stream: 'err',
  msg,
  revision: KEY,
  instance: INSTANCE,
  ...overrides,
});
const revision: Revision = {
  key: KEY,
  namespace: 'default',
  name: 'hello',
  number: 7,
  bundle: `sha256:${'0'.repeat(64)}`,
  entry: 'index.mjs',
  image: null,
  settings: { ...FunctionSettings.parse({ memoryMib: 256, timeoutSeconds: 3, max: 2 }), concurrency: 10, egress: 'none' },
  form: 'fetch',
  createdAt: 1,
};
const why = (overrides: Partial<CallRecord> = {}, rest: Partial<Evidence> = {}) =>
  explain({ call: call(overrides), logs: [], notes: [], dropped: 0, others: 0, revision, ...rest });

describe('a call that went well', () => {
  it('says what it was an event of, and what no instance has answered', () => {
    expect(why({ event: 'schedule' }).summary).toBe('hello@7 answered to an event (schedule) with 200 in 4.6 ms.');
    expect(why({ event: 'queue', status: 500 }).summary).toContain('hello@7 answered to an event (queue) with 500 by itself');
    const { instance: _instance, revision: _revision, ...accepted } = call({ status: 202 });
    const explained = (status: number) =>
      explain({ call: { ...accepted, status }, logs: [], notes: [], dropped: 0, others: 0, revision: null });
    expect(explained(202)).toMatchObject({
      summary: 'Accepted to be answered later, for hello, in 4.6 ms.',
      temperature: 'it reached no instance',
    });
    expect(explained(401).summary).toBe('Answered with 401 by the platform, for hello, in 4.6 ms.');
  });

  it('has its phases and nothing to do', () => {
    const { phases, temperature, fault, summary, advice } = why({ bodyMs: 2 });
    expect(phases.map(({ name, ms }) => `${name} ${ms}`)).toEqual(['body 2', 'queue 0.1', 'handler 4', 'stream 0.5']);
    expect(temperature).toBe('warm: an instance had a free slot');
    expect([fault, advice]).toEqual(['none', []]);
    expect(summary).toBe('hello@7 answered with 200 in 4.6 ms.');
  });

  it('cold: says how, why, and what each part took', () => {
    const { phases, temperature, summary } = why({
      queueMs: 300,
      totalMs: 305,
      start: { kind: 'full', startMs: 250, initMs: 40, reason: 'scaled-to-zero' },
    });
    expect(phases.map(({ name, ms }) => `${name} ${ms}`)).toEqual(['queue 10', 'start 250', 'init 40', 'handler 4', 'stream 0.5']);
    expect(temperature).toMatch(/^cold, full: .*scaled to zero/);
    expect(summary).toMatch(/most of it for a start/);
  });

  it('does not take a start for longer than the request waited for it', () => {
    const { phases } = why({ queueMs: 50, start: { kind: 'full', startMs: 250, initMs: 40 } });
    expect(phases.slice(0, 3).map(({ ms }) => ms)).toEqual([0, 10, 40]);
  });

  it('slow for its start: says what would help', () => {
    const { advice } = why({ queueMs: 2_000, totalMs: 2_005, start: { kind: 'full', startMs: 1_000, initMs: 900 } });
    expect(advice).toHaveLength(3);
    expect(advice.join(' ')).toMatch(/--pool.*Loading the code took 900 ms.*--min 1/);
  });

  it('by itself answered with 404: nobody is at fault', () => {
    expect(why({ status: 404 })).toMatchObject({ fault: 'none', summary: 'hello@7 answered with 404 in 4.6 ms.' });
  });
});

describe('a call that failed', () => {
  it.each(ErrorCode.options)('%s: the fault and the remedy are those of the registry', (code) => {
    const { fault, summary, advice } = why({ code, status: 500, detail: 'the detail' });
    expect(fault).toMatch(/^(?:caller|function|platform)$/);
    expect(summary).toContain(`(${code}): the detail`);
    expect(advice.length).toBeGreaterThan(0);
    // It is fn why that says so.
    expect(advice.join(' ')).not.toMatch(/fn why/);
  });

  it('out of memory: what it had, what it used, and what to try', () => {
    const notes = [line('instance i-aaaaaaaaaaaa ended: out of memory, peak 251 MiB', { stream: 'sys' })];
    expect(why({ code: 'function-oom', status: 502 }, { notes }).advice[0]).toMatch(
      /had 256 MiB, and its peak was 251 MiB: .*--memory 512/,
    );
    expect(why({ code: 'function-oom', status: 502 }).advice[0]).toMatch(/had 256 MiB, and it used all of it/);
  });

  it('too late: where the time went, and the last that was logged', () => {
    const late: Partial<CallRecord> = { code: 'function-timeout', status: 504, streamMs: undefined, handlerMs: 3_000, totalMs: 3_001 };
    expect(why(late).advice.slice(0, 2).join(' ')).toMatch(/timeout of 3 s passed before.*logged nothing/);
    const logs = [line('asking the database', { level: 'info', t: 1_040 })];
    expect(why(late, { logs }).advice[1]).toBe('The last that it logged, 40 ms after the request came, was: asking the database');
    const streamed = why({ code: 'function-timeout', status: 200, handlerMs: 20, streamMs: 2_980 });
    expect(streamed.advice[0]).toMatch(/began to answer after 20 ms, and was still writing/);
  });

  it('for want of slots: which limit that is', () => {
    expect(why({ code: 'too-many-requests', status: 429 }).advice[0]).toMatch(/at most 20 requests at a time: max 2 × concurrency 10/);
  });

  it('by an error of the function: which, and where', () => {
    const logs = [
      line(
        'TypeError: x is not a function\n    at inner (node:internal/x:1:1)\n    at handler (src/handler.ts:3:9)\n    at shim (/fn/shim.mjs:1:1)',
      ),
    ];
    const { fault, summary, advice } = why({ status: 500 }, { logs });
    expect(fault).toBe('function');
    expect(summary).toContain('answered with 500 by itself after 4.6 ms: TypeError: x is not a function');
    expect(advice).toEqual(['It failed at src/handler.ts:3:9.', 'See `fn logs hello --request r-1`.']);
  });

  it('by the error that it threw, not by one that it reported on the way or by work behind the answer', () => {
    const at = (text: string, place: string, t: number) => line(`Error: ${text}\n    at handler (${place})`, { t });
    const logs = [at('reported', 'a.ts:1:1', 1_001), at('thrown', 'b.ts:2:2', 1_004), at('behind', 'c.ts:3:3', 1_500)];
    const { summary, advice } = why({ status: 500 }, { logs });
    expect(summary).toMatch(/: Error: thrown$/);
    expect(advice[0]).toBe('It failed at b.ts:2:2.');
    // What is thrown need not have a stack; the place is not that of another then.
    const text = why({ status: 500 }, { logs: [logs[0]!, line('thrown as text', { t: 1_004 })] });
    expect(text.summary).toMatch(/: thrown as text$/);
    expect(text.advice).toEqual(['See `fn logs hello --request r-1`.']);
    // Nor is it what nobody caught a moment later: that ended the instance, not this answer.
    const uncaught = at('later', 'd.ts:4:4', 1_006);
    const both = [logs[1]!, { ...uncaught, msg: `Uncaught exception: ${uncaught.msg}` }];
    expect(why({ status: 500 }, { logs: both }).summary).toMatch(/: Error: thrown$/);
    expect(why({ status: 502, code: 'function-crashed' }, { logs: both }).advice[0]).toBe('It failed at d.ts:4:4.');
    // A clock that is ahead: still something.
    expect(why({ status: 500 }, { logs: [logs[2]!] }).summary).toMatch(/: Error: behind$/);
  });

  it('as the client went away: that is the client’s affair', () => {
    expect(why({ status: 0, aborted: true, event: 'invocation' }).summary).toMatch(/^The event \(invocation\) was called off after/);
    expect(why({ status: 0, aborted: true })).toMatchObject({
      fault: 'caller',
      summary: expect.stringContaining('went away after 4.6 ms'),
    });
  });

  it('after other instances, and with lines missing: says so', () => {
    const { advice } = why(
      { code: 'no-capacity', status: 503, tries: [{ instance: 'i-bbbbbbbbbbbb', why: 'refused: full' }] },
      { dropped: 12 },
    );
    expect(advice.join(' ')).toMatch(/1 other instance before.*i-bbbbbbbbbbbb \(refused: full\).*12 log lines were dropped/);
  });

  it('and whose revision is gone: still something', () => {
    expect(why({ code: 'function-oom', status: 502 }, { revision: null }).advice.length).toBeGreaterThan(0);
  });
});

describe('the place of an error', () => {
  it.each([
    ['Error: x\n    at fetch (handler.ts:3:9)', 'handler.ts:3:9'],
    ['Error: x\n    at file:///code/index.mjs:10:2', '/code/index.mjs:10:2'],
    ['Error: x\n    at f (/code/node_modules/lib/a.js:1:1)\n    at g (b.js:2:2)', 'b.js:2:2'],
    [
      'Traceback (most recent call last):\n  File "/code/app.py", line 3, in handler\n  File "/x/site-packages/y.py", line 9, in z\nKeyError',
      '/code/app.py:3',
    ],
    ['nothing of the kind', null],
  ])('in %j is %s', (text, place) => {
    expect(placeIn(text)).toBe(place);
  });
});
