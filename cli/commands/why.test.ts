import { describe, expect, it } from 'vitest';
import type { CallRecord, Why } from '#contract/call.ts';
import { parseMoment } from '../command.ts';
import { renderCalls } from '../calls-view.ts';
import { renderEntry } from '../log-view.ts';
import { renderWhy } from '../why-view.ts';

const plain = (_style: string, text: string) => text;
const tagged = (style: string, text: string) => `<${style}>${text}</${style}>`;

const call: CallRecord = {
  id: 'k3v9x0q2ab-1f',
  t: Date.UTC(2026, 0, 1, 12),
  gateway: 'g',
  namespace: 'default',
  name: 'hello',
  revision: 'default/hello@7',
  instance: 'i-abcdefghijkl',
  method: 'GET',
  path: '/hello/\u001b[2J',
  status: 500,
  totalMs: 315.2,
  queueMs: 300,
  handlerMs: 15,
  streamMs: 0.2,
  start: { kind: 'full', startMs: 250, initMs: 40, reason: 'scaled-to-zero' },
};
const line = { t: call.t + 310, level: 'error', stream: 'err', revision: 'default/hello@7', instance: 'i-abcdefghijkl' } as const;
const explained: Why = {
  call,
  phases: [
    { name: 'queue', ms: 10, note: 'it waited for its turn' },
    { name: 'start', ms: 250, note: 'an instance was created' },
    { name: 'init', ms: 40 },
    { name: 'handler', ms: 15, note: 'the function worked until the head of its answer' },
    { name: 'stream', ms: 0.2 },
  ],
  temperature: 'cold, full: an instance was created, as none was running',
  fault: 'function',
  summary: 'hello@7 answered with 500 by itself after 315 ms: TypeError: x is not a function',
  advice: ['It failed at handler.ts:3:9.', 'See `fn logs hello --request k3v9x0q2ab-1f`.'],
  instance: { id: 'i-abcdefghijkl', notes: [{ ...line, stream: 'sys', level: 'info', msg: 'ready' }] },
  logs: [{ ...line, msg: 'TypeError: x is not a function\n    at handler.ts:3:9', req: call.id }],
  dropped: 0,
  others: 2,
};

describe('fn why', () => {
  it('shows where the time went, who was at fault and what to do', () => {
    expect(renderWhy(explained, plain)).toMatchInlineSnapshot(`
      "GET /hello/\\x1b[2J → 500 in 315 ms
      hello@7 on i-abcdefghijkl, 2026-01-01T12:00:00.000Z, request k3v9x0q2ab-1f

      hello@7 answered with 500 by itself after 315 ms: TypeError: x is not a function
      at fault: function

        queue     10 ms  █                                 it waited for its turn
        start    250 ms  ████████████████████████████████  an instance was created
        init      40 ms  █████
        handler   15 ms  ██                                the function worked until the head of its answer
        stream   0.2 ms
        cold, full: an instance was created, as none was running

      what to do
        → It failed at handler.ts:3:9.
        → See \`fn logs hello --request k3v9x0q2ab-1f\`.

      instance i-abcdefghijkl
        2026-01-01 12:00:00.310 @7 i-abcdef sys ready

      log of this request
        2026-01-01 12:00:00.310 @7 i-abcdef k3v9x0q2ab-1f TypeError: x is not a function
                at handler.ts:3:9

      note: 2 older calls have the same id; this is the newest
      "
    `);
  });

  it('shows a call that went well in a few lines', () => {
    const { start: _start, ...warm } = call;
    const well: Why = {
      ...explained,
      call: { ...warm, status: 200, path: '/hello' },
      phases: [],
      fault: 'none',
      advice: [],
      instance: null,
      logs: [],
      others: 0,
      summary: 'hello@7 answered with 200 in 315 ms.',
      temperature: 'warm: an instance had a free slot',
    };
    expect(renderWhy(well, plain)).toMatchInlineSnapshot(`
      "GET /hello → 200 in 315 ms
      hello@7 on i-abcdefghijkl, 2026-01-01T12:00:00.000Z, request k3v9x0q2ab-1f

      hello@7 answered with 200 in 315 ms.

        warm: an instance had a free slot

      log of this request
        nothing was logged for it
      "
    `);
  });
});

describe('fn calls', () => {
  it('is a table', () => {
    const gone: CallRecord = {
      id: 'x',
      t: call.t,
      gateway: 'g',
      namespace: 'default',
      name: 'hello',
      method: 'POST',
      path: '/',
      status: 0,
      totalMs: 1,
    };
    expect(renderCalls([call, { ...gone, code: 'queue-timeout', status: 503 }, gone])).toMatchInlineSnapshot(`
      "TIME                     STATUS    TOOK  START  REVISION  INSTANCE        REQUEST        WHAT
      2026-01-01 12:00:00.000     500  315 ms  full          7  i-abcdefghijkl  k3v9x0q2ab-1f  GET /hello/\\x1b[2J
      2026-01-01 12:00:00.000     503  1.0 ms  -             -  -               x              POST / queue-timeout
      2026-01-01 12:00:00.000    gone  1.0 ms  -             -  -               x              POST /
      "
    `);
  });
});

describe('fn logs', () => {
  it('paints by level', () => {
    const painted = (level: 'debug' | 'info' | 'warn' | 'error') => renderEntry({ ...line, level, msg: 'text' }, tagged);
    expect(painted('debug')).toContain('<dim>text</dim>');
    expect(painted('info')).toMatch(/ text\n$/);
    expect(painted('warn')).toContain('<yellow>text</yellow>');
    expect(painted('error')).toContain('<red>text</red>');
  });

  it('understands durations and times', () => {
    expect(parseMoment('2026-11-21T08:30Z')).toBe(Date.UTC(2026, 10, 21, 8, 30));
    expect(parseMoment('2026-11-21')).toBe(Date.UTC(2026, 10, 21));
    const ago = Date.now() - parseMoment('5m');
    expect(ago).toBeGreaterThanOrEqual(300_000);
    for (const text of ['yesterday', '2026-13-40', '5 minutes', '5y', '']) expect(() => parseMoment(text)).toThrow(/neither a duration/);
  });
});
