/** What every measurement is given, and the little that they share. */
import { type Timing, serverTiming } from '../helpers/http.ts';
import type { DriverName, TestPlatform } from '../helpers/platform.ts';
import { sleep, waitFor } from '../helpers/wait.ts';
import { Client, type Told } from './client.ts';
import type { Figure } from './report.ts';

export const HELLO = 'test/bench/fixtures/hello.ts';

export interface BenchContext {
  driver: DriverName;
  /** With pools, as users have it. */
  platform: TestPlatform;
  /** Starts a further platform with other settings; it is ended with the run. */
  start: (env: Record<string, string>) => Promise<TestPlatform>;
  /** Something that started platforms need: it is closed after they have ended. */
  defer: (close: () => Promise<void> | void) => void;
  /** 1: the full number of rounds. Less: quicker and rougher. */
  effort: number;
  /** Whether to tell where the gateway's time goes. */
  profile: boolean;
  say: (line: string) => void;
}

export interface Measurement {
  group: string;
  run: (context: BenchContext) => Promise<Figure[]>;
}

export const rounds = (context: BenchContext, full: number): number => Math.max(3, Math.round(full * context.effort));

export interface Timed {
  answer: Told;
  timing: Timing;
}

/** By port. */
const clients = new Map<number, Client>();

/** One request on a connection that is open already: what is measured is the platform, not the handshake. */
export async function timed(platform: TestPlatform, path: string): Promise<Timed> {
  const client = clients.get(platform.port) ?? new Client(platform.port);
  clients.set(platform.port, client);
  const answer = await client.ask(path);
  return { answer, timing: serverTiming(/\r\nserver-timing: ([^\r]*)/i.exec(answer.head)?.[1]) };
}

export function closeConnections(): void {
  for (const client of clients.values()) client.close();
}

/** Waits until the pool is full and nothing is being started or stopped, and then a moment more. */
export async function quiet(platform: TestPlatform, generic: number): Promise<void> {
  await waitFor(
    `${generic} generic instances and quiet`,
    async () => {
      const { instances } = await platform.status();
      const unsettled = instances.some(({ state }) => state === 'starting' || state === 'draining');
      return !unsettled && instances.filter(({ state }) => state === 'generic').length >= generic;
    },
    { timeoutMs: 120_000, everyMs: 100 },
  );
  await sleep(250);
}

/** Waits until none of these functions has an instance. */
export async function allCold(platform: TestPlatform, prefix: string): Promise<void> {
  await waitFor(
    `no instance of ${prefix}`,
    async () => (await platform.status()).instances.every((instance) => !(instance.function ?? '').startsWith(prefix)),
    { timeoutMs: 120_000, everyMs: 200 },
  );
}
