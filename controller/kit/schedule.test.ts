import { describe, expect, it } from 'vitest';
import { checkSchedule, nextTick, ticksBetween } from './schedule.ts';

const at = (text: string): number => Date.parse(text);
const from = (schedule: string, timezone: string, after: string, until: string): string[] =>
  ticksBetween(schedule, timezone, at(after), at(until), 100).map((tick) => new Date(tick).toISOString().slice(0, 16));

describe('a schedule', () => {
  it.each([
    '* * * * *',
    '*/5 * * * * *',
    '0 9 * * MON-FRI',
    '@hourly',
    '@daily',
    '@weekly',
    '@monthly',
    '@yearly',
    '0 0 29 2 *',
    '0 0 L * *',
  ])('is taken: %s', (schedule) => expect(checkSchedule(schedule, 'Europe/Berlin')).toBeNull());

  it.each([
    ['* * *', 'UTC', 'schedule', '3 fields'],
    ['* * * * * * *', 'UTC', 'schedule', '7 fields'],
    ['61 * * * *', 'UTC', 'schedule', 'minute: 61'],
    ['0 0 30 2 *', 'UTC', 'schedule', 'never comes'],
    ['@reboot', 'UTC', 'schedule', 'none of'],
    ['2026-12-24T00:00:00', 'UTC', 'schedule', '1 fields'],
    ['* * * * *', 'Mars/Phobos', 'timezone', 'IANA'],
    ['* * * * *', '+02:00', 'timezone', 'summer time'],
  ])('is refused: %s in %s', (schedule, timezone, field, says) => {
    const fault = checkSchedule(schedule, timezone);
    expect(fault?.field).toBe(field);
    expect(fault?.detail).toContain(says);
  });

  it('is due in its own time zone', () => {
    const next = (timezone: string) => new Date(nextTick('0 9 * * *', timezone, at('2026-07-01T00:00:00Z')) ?? 0).toISOString();
    expect([next('UTC'), next('Europe/Berlin'), next('America/New_York')]).toEqual([
      '2026-07-01T09:00:00.000Z',
      '2026-07-01T07:00:00.000Z',
      '2026-07-01T13:00:00.000Z',
    ]);
  });

  it('of an hour that does not exist comes right after the gap, once', () => {
    expect(from('30 2 * * *', 'Europe/Berlin', '2026-03-28T02:00:00Z', '2026-03-30T02:00:00Z')).toEqual([
      '2026-03-29T01:00',
      '2026-03-30T00:30',
    ]);
  });

  it('of an hour that comes twice fires once, the first time', () => {
    expect(from('30 2 * * *', 'Europe/Berlin', '2026-10-24T02:00:00Z', '2026-10-26T02:00:00Z')).toEqual([
      '2026-10-25T00:30',
      '2026-10-26T01:30',
    ]);
  });

  it('by intervals follows real time over both changes', () => {
    const halves = (day: string) =>
      from('*/30 * * * *', 'Europe/Berlin', `${day}T00:00:00Z`, `${day}T02:00:00Z`).map((text) => text.slice(11));
    const expected = ['00:30', '01:00', '01:30', '02:00'];
    expect([halves('2026-03-29'), halves('2026-10-25')]).toEqual([expected, expected]);
  });

  it('that was not looked at for years gives its last ticks at once', () => {
    const ticks = ticksBetween('* * * * * *', 'UTC', 0, at('2026-11-21T12:00:00Z'), 3);
    expect(ticks).toEqual([-2, -1, 0].map((n) => at('2026-11-21T12:00:00Z') + n * 1_000));
  });
});
