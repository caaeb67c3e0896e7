import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { frame } from '../test/helpers/websocket.ts';
import { closeFrame, FrameTracker } from './websocket-frames.ts';

/** Cuts bytes at these places. */
function cut(bytes: Buffer, places: readonly number[]): Buffer[] {
  const ends = [...places.map((place) => place % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
  return ends.map((end, i) => bytes.subarray(i === 0 ? 0 : ends[i - 1], end));
}

const frames = fc.array(
  fc.record({
    opcode: fc.constantFrom(0, 1, 2, 9, 10),
    length: fc.oneof(fc.integer({ min: 0, max: 130 }), fc.constantFrom(65_535, 65_536, 70_000)),
    masked: fc.boolean(),
    fin: fc.boolean(),
    rsv: fc.integer({ min: 0, max: 7 }),
  }),
  { minLength: 1, maxLength: 6 },
);

describe('the ends of frames', () => {
  it('property: are found wherever the bytes are cut', () => {
    fc.assert(
      fc.property(frames, fc.array(fc.nat(), { maxLength: 8 }), (list, places) => {
        const made = list.map(({ opcode, length, ...options }) => frame(opcode, Buffer.alloc(length, 0x88), options));
        const ends = new Set<number>([0]);
        let total = 0;
        for (const one of made) ends.add((total += one.length));
        const whole = new FrameTracker();
        let at = 0;
        for (const chunk of cut(Buffer.concat(made), places)) {
          expect(whole.follow(chunk)).toBe(chunk.length);
          at += chunk.length;
          expect([at, whole.atBoundary]).toEqual([at, ends.has(at)]);
        }
        // Stopped at each end in turn, it stops at each of them and nowhere else.
        const stopping = new FrameTracker();
        const stops = new Set<number>([0]);
        let position = 0;
        for (const chunk of cut(Buffer.concat(made), places)) {
          for (let rest = chunk; rest.length > 0;) {
            const passed = stopping.follow(rest, true);
            position += passed;
            rest = rest.subarray(passed);
            if (stopping.atBoundary) stops.add(position);
          }
        }
        expect(stops).toEqual(ends);
        expect(whole.closed || stopping.closed).toBe(false);
      }),
      { numRuns: 200 },
    );
  });

  it('property: bytes that mean nothing do no harm', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 20 }), (chunks) => {
        const tracker = new FrameTracker();
        for (const chunk of chunks) expect(tracker.follow(Buffer.from(chunk))).toBe(chunk.length);
      }),
    );
  });

  it.each([false, true])('a close frame is known when it is complete (masked: %s)', (masked) => {
    const tracker = new FrameTracker();
    const bytes = closeFrame(1001, 'going away', masked);
    tracker.follow(bytes.subarray(0, bytes.length - 1));
    expect(tracker.closed).toBe(false);
    tracker.follow(bytes.subarray(-1));
    expect([tracker.closed, tracker.atBoundary]).toEqual([true, true]);
  });

  it('ours says its code and reason, masked as a client must', () => {
    expect(closeFrame(1001, 'x', false)).toEqual(Buffer.from([0x88, 3, 0x03, 0xe9, 0x78]));
    const masked = closeFrame(1001, 'x', true);
    const mask = masked.subarray(2, 6);
    expect([...masked.subarray(0, 2), ...masked.subarray(6).map((byte, i) => byte ^ mask[i & 3]!)]).toEqual([0x88, 0x83, 0x03, 0xe9, 0x78]);
  });
});
