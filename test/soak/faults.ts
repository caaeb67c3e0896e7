/** What strikes during a soak, and what each fault may do to whom (docs/operations.md: what happens when). */
import type { TestPlatform } from '../helpers/platform.ts';
import type { RedisServer } from '../helpers/redis-server.ts';
import { sleep, waitFor } from '../helpers/wait.ts';
import type { Part } from './census.ts';
import type { Allowance } from './judge.ts';

const FROZEN_MS = 10_000;
const BACK_WITHIN_MS = 30_000;

/** Commands of people: one that was under way is told that it failed, and is given again. */
const COMMANDS: Allowance = {
  deploy: /^exit [14]/,
  rollback: /^exit [14]/,
  delete: /^exit [14]/,
  'secret set': /^exit [14]/,
  logs: /^exit [14]/,
  'dead letters': /./,
};
/** Connections of a process that was killed break; none is refused, for the listening socket lives on. */
const CUT = /ECONNRESET|EPIPE|hang up|aborted|it ended|did not come|^closed with|cut short|^terminated/;

export interface Fault {
  name: string;
  /** The part whose process it ends: none of these while memory is looked at. */
  ends?: Part;
  strike: () => Promise<void>;
}

/** By the fault's name: what it may do. What is not here, it may not. */
export const ALLOWED: Readonly<Record<string, Allowance>> = {
  'kill -9 of the controller': { ...COMMANDS, async: /^503 / },
  // What was in it fails once, and says so.
  'kill -9 of an instance': { mortal: /^502 (?:function-crashed|instance-lost)/ },
  'kill -9 of the gateway': { '*': CUT, deploy: /^exit [14]/, rollback: /^exit [14]/, async: /^503 / },
  'kill -9 of the dispatcher': { async: /^503 events-unavailable/, 'dead letters': /^503/ },
  'controller frozen for 10 s': { ...COMMANDS, async: /^503 / },
  // WebSockets and endless streams are ended in order; no request fails.
  'SIGTERM to the gateway': { ws: /^closed with 1001|^ECONNRESET|did not come/, abort: /it ended|ECONNRESET|aborted/ },
};

async function pidOf(platform: TestPlatform, part: Part): Promise<number | null> {
  if (part === 'supervisor') throw new Error('the supervisor is not struck');
  return platform.status().then(
    (status) => status[part].pid,
    () => null,
  );
}

/** Ends a part by a signal and waits until another is there. */
async function end(platform: TestPlatform, part: Part, signal: NodeJS.Signals): Promise<void> {
  const before = await waitFor(`the ${part}`, () => pidOf(platform, part), { timeoutMs: BACK_WITHIN_MS });
  process.kill(before, signal);
  await waitFor(
    `another ${part}`,
    async () => {
      const now = await pidOf(platform, part);
      return now !== null && now !== before;
    },
    { timeoutMs: BACK_WITHIN_MS },
  );
}

async function freeze(pid: number): Promise<void> {
  process.kill(pid, 'SIGSTOP');
  await sleep(FROZEN_MS);
  try {
    process.kill(pid, 'SIGCONT');
  } catch (error) {
    // It may have been taken for dead meanwhile, and ended.
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** In their order. */
export function faults(platform: TestPlatform, broker: RedisServer): Fault[] {
  const pid = async (part: Part) => waitFor(`the ${part}`, () => pidOf(platform, part), { timeoutMs: BACK_WITHIN_MS });
  return [
    {
      name: 'kill -9 of the controller',
      ends: 'controller',
      strike: () => end(platform, 'controller', 'SIGKILL'),
    },
    {
      name: 'kill -9 of an instance',
      strike: async () => {
        await platform.killInstance(await platform.servingInstance('mortal'));
      },
    },
    {
      name: 'kill -9 of the gateway',
      ends: 'gateway',
      strike: () => end(platform, 'gateway', 'SIGKILL'),
    },
    {
      name: 'kill -9 of the trigger’s Redis',
      strike: async () => {
        await broker.kill();
        await sleep(3_000);
        await broker.restart();
      },
    },
    {
      name: 'out of memory',
      strike: async () => {
        const answer = await platform.call('/hungry/oom');
        const code = answer.status === 502 ? answer.json<{ code: string }>().code : answer.text.slice(0, 200);
        if (code !== 'function-oom') throw new Error(`a function that ate its memory answered ${answer.status} ${code}`);
      },
    },
    {
      name: 'kill -9 of the dispatcher',
      ends: 'dispatcher',
      strike: () => end(platform, 'dispatcher', 'SIGKILL'),
    },
    {
      name: 'controller frozen for 10 s',
      strike: async () => freeze(await pid('controller')),
    },
    {
      name: 'SIGTERM to the gateway',
      ends: 'gateway',
      strike: () => end(platform, 'gateway', 'SIGTERM'),
    },
  ];
}
