/**
 * Reads a trace in the schema of the Azure Functions Trace 2019 (AzurePublicDataset): a folder with invocations.csv, durations.csv and
 * memory.csv, or with the files of the data set itself, one of each kind per day. A function is HashOwner/HashApp/HashFunction.
 */
import { createReadStream, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

export const MINUTES_PER_DAY = 1_440;
/** Where the trace has none of a function: what the median one of the data set has, ms and MiB. */
const MEDIAN = { durationMs: 700, memoryMib: 170 };

export interface TracedFunction {
  id: string;
  /** Minutes with invocations, from 0, ascending; and how many there were in each. */
  minutes: number[];
  counts: number[];
  invocations: number;
  /** Of an invocation, ms: percentiles 0, 25, 50, 75 and 100. */
  durationsMs: readonly number[];
  memoryMib: number;
}

export interface Trace {
  functions: TracedFunction[];
  minutes: number;
}

type Kind = 'invocations' | 'durations' | 'memory';
const PATTERNS: Record<Kind, RegExp> = {
  invocations: /^(?:invocations|invocations_per_function_md\.anon\.d(\d+))\.csv$/,
  durations: /^(?:durations|function_durations_percentiles\.anon\.d(\d+))\.csv$/,
  memory: /^(?:memory|app_memory_percentiles\.anon\.d(\d+))\.csv$/,
};

/** What is wrong with a trace, and where: the folder, or `FILE:LINE`. */
export class TraceError extends Error {
  override name = 'TraceError';
}

/** Throws TraceError where the folder holds no invocations, a file has not the columns, or a row is none. */
export async function readTrace(folder: string): Promise<Trace> {
  if (!statSync(folder, { throwIfNoEntry: false })?.isDirectory()) throw new TraceError(`${folder} is no folder`);
  const names = readdirSync(folder).sort();
  const of = (kind: Kind) => names.filter((name) => PATTERNS[kind].test(name)).map((name) => join(folder, name));
  const days = of('invocations');
  if (days.length === 0) throw new TraceError(`${folder} holds neither invocations.csv nor invocations_per_function_md.anon.dNN.csv`);
  const functions = new Map<string, TracedFunction>();
  const apps = new Map<string, TracedFunction[]>();
  for (const [day, file] of days.entries()) await readInvocations(file, day * MINUTES_PER_DAY, functions, apps);
  if ([...functions.values()].every(({ invocations }) => invocations === 0))
    throw new TraceError(`${days.join(', ')}: no invocation in it`);
  for (const file of of('durations')) await readDurations(file, functions);
  for (const file of of('memory')) await readMemory(file, apps);
  return { functions: [...functions.values()], minutes: days.length * MINUTES_PER_DAY };
}

/** The first is the head; each has as many cells as that. */
async function* rows(file: string): AsyncGenerator<{ row: string[]; at: string }> {
  let cells: number | null = null;
  let number = 0;
  for await (const line of createInterface({ input: createReadStream(file), crlfDelay: Infinity })) {
    number += 1;
    if (line === '') continue;
    const row = line.split(',');
    cells ??= row.length;
    const at = `${file}:${number}`;
    if (row.length !== cells) throw new TraceError(`${at} has ${row.length} cells, and the head ${cells}`);
    yield { row, at };
  }
  if (cells === null) throw new TraceError(`${file} is empty`);
}

/** A cell that has to be a number; below 0 where the data set has it so. */
function numberOf(text: string | undefined, at: string, column: string): number {
  const value = text === undefined || text.trim() === '' ? Number.NaN : Number(text);
  if (!Number.isFinite(value)) throw new TraceError(`${at}: ${JSON.stringify(text)} is no number (${column})`);
  return value;
}

function columns(file: string, head: readonly string[], names: readonly string[]): number[] {
  return names.map((name) => {
    const index = head.indexOf(name);
    if (index < 0) throw new TraceError(`${file} has no column ${name}`);
    return index;
  });
}

const OWNER = ['HashOwner', 'HashApp'];

async function readInvocations(
  file: string,
  firstMinute: number,
  functions: Map<string, TracedFunction>,
  apps: Map<string, TracedFunction[]>,
): Promise<void> {
  let key: number[] | null = null;
  let first = 0;
  for await (const { row, at } of rows(file)) {
    if (key === null) {
      key = columns(file, row, [...OWNER, 'HashFunction']);
      first = row.findIndex((name) => name === '1' || name === 'minute_1');
      if (first < 0) throw new TraceError(`${file} has no column for the first minute`);
      continue;
    }
    const id = key.map((index) => row[index]).join('/');
    let traced = functions.get(id);
    if (!traced) {
      traced = { id, minutes: [], counts: [], invocations: 0, durationsMs: Array(5).fill(MEDIAN.durationMs), memoryMib: MEDIAN.memoryMib };
      functions.set(id, traced);
      const app = key
        .slice(0, 2)
        .map((index) => row[index])
        .join('/');
      apps.set(app, [...(apps.get(app) ?? []), traced]);
    }
    for (let minute = 0; minute < MINUTES_PER_DAY; minute += 1) {
      const text = row[first + minute];
      if (text === '0' || text === undefined) continue;
      const count = numberOf(text, at, `minute ${minute + 1}`);
      if (!Number.isSafeInteger(count) || count < 0)
        throw new TraceError(`${at}: ${JSON.stringify(text)} is no number of invocations (minute ${minute + 1})`);
      if (count === 0) continue;
      traced.minutes.push(firstMinute + minute);
      traced.counts.push(count);
      traced.invocations += count;
    }
  }
}

async function readDurations(file: string, functions: ReadonlyMap<string, TracedFunction>): Promise<void> {
  let key: number[] | null = null;
  let percentiles: number[] = [];
  for await (const { row, at } of rows(file)) {
    if (key === null) {
      key = columns(file, row, [...OWNER, 'HashFunction']);
      percentiles = columns(
        file,
        row,
        [0, 25, 50, 75, 100].map((percent) => `percentile_Average_${percent}`),
      );
      continue;
    }
    const traced = functions.get(key.map((index) => row[index]).join('/'));
    const values = percentiles.map((index) => numberOf(row[index], at, 'a percentile'));
    if (traced && values.every((value) => value >= 0)) traced.durationsMs = values;
  }
}

async function readMemory(file: string, apps: ReadonlyMap<string, TracedFunction[]>): Promise<void> {
  let key: number[] | null = null;
  let average = 0;
  for await (const { row, at } of rows(file)) {
    if (key === null) {
      [average = 0, ...key] = columns(file, row, ['AverageAllocatedMb', ...OWNER]);
      continue;
    }
    for (const traced of apps.get(key.map((index) => row[index]).join('/')) ?? []) {
      const memoryMib = numberOf(row[average], at, 'AverageAllocatedMb');
      if (memoryMib > 0) traced.memoryMib = memoryMib;
    }
  }
}

/** The two halves of the functions, by their names: what is tuned on one is judged on the other. */
export function halves(trace: Trace): [Trace, Trace] {
  const half = (of: number): Trace => ({ ...trace, functions: trace.functions.filter(({ id }) => hash(id) % 2 === of) });
  return [half(1), half(0)];
}

/** FNV-1a, 32 bits. */
export function hash(text: string): number {
  let sum = 0x811c9dc5;
  for (let index = 0; index < text.length; index += 1) sum = Math.imul(sum ^ text.charCodeAt(index), 0x01000193) >>> 0;
  return sum >>> 0;
}
