/** Which lines of a log are asked for, and in which order they are given: by time, over all instances. */
import { type LogEntry, LogLevel } from '#contract/log.ts';
import { parseRevisionKey } from '#contract/names.ts';
import type { LogSelection } from '../api/platform.ts';
import { parseEntry } from './log-lines.ts';
import { ENTRY_PREFIX, type Segment } from './log-segments.ts';

/**
 * Entries held back to be given in the order of time, where segments overlap. That is what instances
 * wrote at the same time, or while no controller ran; beyond it the order is less exact.
 */
export const MAX_HELD_ENTRIES = 50_000;

export type LineFilter = Pick<LogSelection, 'since' | 'until' | 'request' | 'level' | 'grep' | 'revision' | 'instance' | 'stream'>;

/** Whether an entry is one of those that are asked for. */
export function matches(entry: LogEntry, { since, until, request, level, grep, revision, instance, stream }: LineFilter): boolean {
  if (entry.t < (since ?? -Infinity) || entry.t >= (until ?? Infinity)) return false;
  if (request !== undefined && entry.req !== request) return false;
  if (instance !== undefined && entry.instance !== instance) return false;
  if (stream !== undefined && entry.stream !== stream) return false;
  if (level !== undefined && severity(entry.level) < severity(level)) return false;
  if (revision !== undefined && parseRevisionKey(entry.revision).number !== revision) return false;
  return grep === undefined || entry.msg.includes(grep);
}

const severity = (level: LogLevel): number => LogLevel.options.indexOf(level);

/** An entry and its place in the order: its time, or that of what its instance had written before it. */
interface Placed {
  at: number;
  entry: LogEntry;
}

/** Entries as they were written, by time; those of one instance stay as it wrote them, also where its clock went back. */
function placed(entries: readonly LogEntry[]): Placed[] {
  const latest = new Map<string, number>();
  const found = entries.map((entry) => {
    const at = Math.max(entry.t, latest.get(entry.instance) ?? -Infinity);
    latest.set(entry.instance, at);
    return { at, entry };
  });
  return found.toSorted(byPlace);
}

const byPlace = (a: Placed, b: Placed): number => a.at - b.at;

/** The same, without their places. */
export const byTime = (entries: readonly LogEntry[]): LogEntry[] => placed(entries).map(({ entry }) => entry);

/** Text that a line must hold if it is to match: spares parsing those that cannot. */
function needles({ request, grep, revision, instance, stream }: LineFilter): string[] {
  const found: string[] = [];
  if (request !== undefined) found.push(`"req":${JSON.stringify(request)}`);
  if (grep !== undefined) found.push(JSON.stringify(grep).slice(1, -1));
  if (revision !== undefined) found.push(`@${revision}"`);
  if (instance !== undefined) found.push(`"instance":"${instance}"`);
  if (stream !== undefined) found.push(`"stream":"${stream}"`);
  return found;
}

/** Those entries of a segment that match, by time; none where it has expired meanwhile. */
async function entriesOf(segment: Segment, { filter, read }: SegmentReader): Promise<Placed[]> {
  const data = segment.bytes === 0 ? null : await read(segment.seq);
  if (data === null) return [];
  const wanted = needles(filter);
  const entries: LogEntry[] = [];
  for (const line of data.toString('utf8', 0, segment.bytes).split('\n')) {
    if (!line.startsWith(ENTRY_PREFIX) || !wanted.every((needle) => line.includes(needle))) continue;
    const entry = parseEntry(line);
    if (entry && matches(entry, filter)) entries.push(entry);
  }
  return placed(entries);
}

export interface SegmentReader {
  segments: readonly Segment[];
  /** What is in one now; null: it is gone. */
  read: (seq: number) => Promise<Buffer | null>;
  filter: LineFilter;
  signal: AbortSignal;
}

const overlaps = ({ from, to }: Segment, { since, until }: LineFilter): boolean => to >= (since ?? -Infinity) && from < (until ?? Infinity);

/** All that match, the oldest first. Holds what may still be preceded by a line of another segment. */
export async function* readAscending(reader: SegmentReader): AsyncGenerator<LogEntry> {
  const { segments, filter, signal } = reader;
  const order = segments.filter((segment) => overlaps(segment, filter)).toSorted((a, b) => a.from - b.from || a.seq - b.seq);
  let held: Placed[] = [];
  for (const [index, segment] of order.entries()) {
    const entries = await entriesOf(segment, reader);
    if (signal.aborted) return;
    held = held.length === 0 ? entries : [...held, ...entries].toSorted(byPlace);
    const next = order[index + 1]?.from ?? Infinity;
    const ready = held.findIndex(({ at }) => at >= next);
    const count = Math.max(ready < 0 ? held.length : ready, held.length - MAX_HELD_ENTRIES);
    for (const { entry } of held.slice(0, count)) yield entry;
    held = held.slice(count);
  }
}

/** The newest so many that match, the oldest of them first. Reads from the end, and no more than it takes. */
export async function readNewest(reader: SegmentReader, limit: number): Promise<LogEntry[]> {
  const { segments, filter, signal } = reader;
  const order = segments.filter((segment) => overlaps(segment, filter)).toSorted((a, b) => b.to - a.to || b.seq - a.seq);
  let found: Placed[] = [];
  for (const segment of order) {
    if (signal.aborted) return [];
    if (found.length >= limit && found.at(-limit)!.at > segment.to) break;
    // What is older comes first, so that one instance's lines of the same time stay in order.
    found = [...(await entriesOf(segment, reader)), ...found].toSorted(byPlace).slice(-limit);
  }
  return found.map(({ entry }) => entry);
}
