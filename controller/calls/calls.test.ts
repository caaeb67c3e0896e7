import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { VirtualClock } from '#kit/clock.ts';
import { silentLog } from '#kit/log.ts';
import { Calls } from './calls.ts';
import { testCall } from './testing.ts';

const REMEMBERED = 10_000;
/** Told at a time: no more are taken in a second than 2,000. */
const AT_ONCE = 1_000;

const call = (number: number) => testCall(`r-${number}`, { traceId: number.toString(16).padStart(32, '0') });

describe('traces of requests', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'fn-calls-'));
  });
  afterEach(async () => {
    await rm(folder, { recursive: true, force: true });
  });

  it.each([
    ['are the last ten thousand where somebody asks for them', true, [false, false, true, true]],
    ['are not remembered where nobody does', false, [false, false, false, false]],
  ])('%s', (_what, traces, known) => {
    const clock = new VirtualClock();
    const path = join(folder, 'calls.db');
    const calls = new Calls({ path, clock, log: silentLog, maxRecords: 10, maxAgeMs: 60_000, slowMs: 1_000, traces });
    try {
      for (let from = 0; from < REMEMBERED + AT_ONCE; from += AT_ONCE) {
        calls.add(
          Array.from({ length: AT_ONCE }, (_, index) => call(from + index)),
          0,
        );
        clock.advance(1_000);
      }
      const asked = [0, AT_ONCE - 1, AT_ONCE, REMEMBERED + AT_ONCE - 1];
      expect(asked.map((number) => calls.traceOf(`r-${number}`) === call(number).traceId)).toEqual(known);
    } finally {
      calls.close();
    }
  });
});
