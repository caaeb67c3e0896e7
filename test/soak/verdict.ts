/** From what was written down to yes or no, each with what was found. */
import type { Book } from './book.ts';
import type { Sample } from './census.ts';
import { ALLOWED } from './faults.ts';
import { type Failure, harmless, missingTicks, starvedTimes, unexpected } from './judge.ts';
import type { Series, SoakResult, Strike, Verdict } from './report.ts';
import { TICK_MS } from './manifest.ts';

/** Fewer warm requests than so many a second of the whole time, and it was no load. */
const LEAST_WARM_PER_SECOND = 5;
/** Less time without a fault at the end says nothing. */
const LEAST_TAIL_MS = 10_000;
const TOLD = 5;

export interface Findings {
  book: Book;
  strikes: Strike[];
  samples: readonly Sample[];
  series: Series[];
  /** What `fn down` left, and what went wrong in the soak itself. */
  left: string[];
  troubles: string[];
  cores: number;
}

const some = (items: readonly string[]) =>
  items.length === 0
    ? 'none'
    : `${items.length}: ${items.slice(0, TOLD).join('; ').replaceAll(/\s+/g, ' ').replaceAll('|', '\\|').slice(0, 600)}`;

function eventsOf(book: Book): { counts: Record<string, number>; pending: string[]; poisonNotDead: string[] } {
  const counts: Record<string, number> = {};
  const pending: string[] = [];
  const poisonNotDead: string[] = [];
  for (const by of ['async', 'queue'] as const) {
    const all = [...book.events[by].values()];
    counts[`${by}: acknowledged`] = all.length;
    for (const state of ['done', 'dead', 'pending'] as const)
      counts[`${by}: ${state}`] = all.filter((event) => event.state === state).length;
    counts[`${by}: not acknowledged, sent again`] = book.refused[by];
    pending.push(...all.filter(({ state }) => state === 'pending').map(({ id }) => id));
    poisonNotDead.push(...all.filter(({ state, poison }) => poison && state !== 'dead').map(({ id }) => id));
  }
  counts['ticks of the schedule'] = book.ticks.size;
  for (const [kind, count] of Object.entries(book.again)) counts[`again: ${kind}`] = count;
  return { counts, pending, poisonNotDead };
}

/** What failed, judged by what the faults of the time may do; and nothing at all after the last of them. */
export function failureVerdicts(
  failures: readonly Failure[],
  strikes: readonly Strike[],
  samples: readonly Sample[],
  cores: number,
): { strange: Failure[]; rows: Verdict[] } {
  const until = samples.at(-1)?.at ?? 0;
  const starved = starvedTimes(samples, cores);
  const passed = harmless(failures, starved);
  const all = failures.filter((failure) => !passed.has(failure));
  const strange = unexpected(all, strikes, ALLOWED);
  const lastFelt = Math.max(0, ...strikes.map(({ to }) => to));
  const tail = all.filter(({ to }) => to > lastFelt);
  const told = (items: readonly Failure[]) => some(items.map(({ kind, what }) => `${kind} ${what}`));
  const rows = [
    { what: 'nothing failed that no fault explains', good: strange.length === 0, found: told(strange) },
    {
      what: 'all good after the last fault',
      good: tail.length === 0 && strikes.length > 0 && until - lastFelt >= LEAST_TAIL_MS,
      found: `${((until - lastFelt) / 60_000).toFixed(1)} minutes; failed: ${told(tail)}`,
    },
    {
      what: 'the machine let it run',
      good: starved.length < samples.length / 4,
      found: `${starved.length} of ${samples.length} samples at a load of 20 a core or more; passed over: ${told([...passed])}`,
    },
  ];
  return { strange, rows };
}

export function flatVerdict(series: readonly Series[]): Verdict {
  const judged = series.filter(({ flatness }) => flatness !== null);
  const rising = judged.filter(({ flatness }) => !flatness!.flat).map(({ name }) => name);
  return {
    what: 'everything is flat',
    good: rising.length === 0 && judged.length > 0,
    found: rising.length === 0 ? `${judged.length} series` : some(rising),
  };
}

type Verdicts = Pick<SoakResult, 'requests' | 'events' | 'strikes' | 'series' | 'verdicts' | 'unexpected' | 'wrong'>;

export function verdictsOf({ book, strikes, samples, series, left, troubles, cores }: Findings): Verdicts {
  const kinds = [...new Set([...Object.keys(book.good), ...Object.keys(book.bad)])].toSorted();
  const { counts, pending, poisonNotDead } = eventsOf(book);
  const missing = missingTicks(new Set(book.ticks.keys()), TICK_MS);
  const [first, last] = [samples[0]?.at ?? 0, samples.at(-1)?.at ?? 0];
  const seconds = (last - first) / 1_000;
  const idle = samples.at(-1)?.host.strayContainers ?? Number.NaN;
  const { strange, rows } = failureVerdicts(book.failures, strikes, samples, cores);
  const verdicts: Verdict[] = [
    { what: 'all that was acknowledged is done, or a dead letter', good: pending.length === 0, found: some(pending) },
    {
      what: 'poison, and nothing else, is dead letters',
      good: poisonNotDead.length === 0 && book.wrong.length === 0,
      found: some([...poisonNotDead, ...book.wrong]),
    },
    {
      what: 'no tick is missing',
      good: missing.length === 0 && book.ticks.size > 0,
      found: some(missing.map((tick) => new Date(tick).toISOString())),
    },
    ...rows,
    {
      what: 'there was load',
      good: (book.good.warm ?? 0) > seconds * LEAST_WARM_PER_SECOND,
      found: `${book.good.warm ?? 0} warm requests in ${seconds.toFixed(0)} s`,
    },
    {
      what: 'every fault struck, and was recovered from',
      good: strikes.every(({ error }) => error === undefined),
      found: some(strikes.flatMap(({ fault, error }) => (error === undefined ? [] : [`${fault}: ${error}`]))),
    },
    flatVerdict(series),
    { what: 'at rest no container is there without its instance', good: idle === 0, found: String(idle) },
    { what: '`fn down` leaves nothing', good: left.length === 0, found: some(left) },
    { what: 'the soak itself had no trouble', good: troubles.length === 0, found: some(troubles) },
  ];
  return {
    requests: Object.fromEntries(kinds.map((kind) => [kind, { good: book.good[kind] ?? 0, bad: book.bad[kind] ?? 0 }])),
    events: counts,
    strikes,
    series,
    verdicts,
    unexpected: strange,
    wrong: book.wrong.slice(0, 100),
  };
}
