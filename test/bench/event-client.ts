/**
 * Sends events, and works them off for BullMQ, in a process of its own: the same program on both sides. Takes an
 * EventJob as its argument, prints an EventResult as JSON when it is done; a worker prints `ready` and works until its
 * stdin is closed.
 */
import { Queue, Worker } from 'bullmq';
import { Client } from 'undici';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';

/** Where events go: to a function, or into a queue of BullMQ. */
export type EventTarget = { to: 'fn'; origin: string; path: string } | { to: 'bullmq'; redis: { port: number }; queue: string };

export type EventJob =
  /** So many as fast as can be, `concurrency` at a time. `dueInMs`: not to be worked on before, counted from the start. */
  | { do: 'fill'; target: EventTarget; events: number; concurrency: number; dueInMs: number }
  /** At a rate, whatever the answers: an open loop. */
  | { do: 'steady'; target: EventTarget; events: number; perSecond: number }
  /** BullMQ's worker: calls the function for each job. */
  | { do: 'work'; redis: { port: number }; queue: string; origin: string; path: string; concurrency: number };

export interface EventResult {
  accepted: number;
  refused: number;
  seconds: number;
}

const CONTENT = 'x'.repeat(400);

type Send = (sentAt: string, dueInMs: number) => Promise<boolean>;

function sender(target: EventTarget, connections: number): { send: Send; close: () => Promise<void> } {
  if (target.to === 'bullmq') {
    const queue = new Queue(target.queue, { connection: { port: target.redis.port, host: '127.0.0.1' } });
    // What BullMQ keeps of finished jobs is for people to look at; fn keeps none here either.
    const options = { removeOnComplete: true, attempts: 3 };
    return {
      send: async (sentAt, dueInMs) => {
        await queue.add('event', { sentAt, content: CONTENT }, dueInMs > 0 ? { ...options, delay: dueInMs } : options);
        return true;
      },
      close: () => queue.close(),
    };
  }
  // One request at a time on each connection, as HTTP clients do.
  const clients = Array.from({ length: connections }, () => new Client(target.origin, { pipelining: 1 }));
  let next = 0;
  return {
    send: async (sentAt, dueInMs) => {
      const client = clients[next++ % clients.length]!;
      const { statusCode, body } = await client.request({
        method: 'POST',
        path: target.path,
        headers: {
          'content-type': 'application/json',
          prefer: 'respond-async',
          ...(dueInMs > 0 ? { 'fn-delay': (dueInMs / 1_000).toFixed(3) } : {}),
        },
        body: JSON.stringify({ sentAt, content: CONTENT }),
      });
      await body.dump();
      return statusCode === 202;
    },
    close: async () => {
      await Promise.all(clients.map((client) => client.close()));
    },
  };
}

async function fill({ target, events, concurrency, dueInMs }: Extract<EventJob, { do: 'fill' }>): Promise<EventResult> {
  const { send, close } = sender(target, concurrency);
  const result = { accepted: 0, refused: 0, seconds: 0 };
  const began = performance.now();
  let left = events;
  const one = async () => {
    while (left-- > 0) {
      const wait = dueInMs === 0 ? 0 : Math.max(1, dueInMs - (performance.now() - began));
      if (await send('', wait)) result.accepted += 1;
      else result.refused += 1;
    }
  };
  await Promise.all(Array.from({ length: concurrency }, one));
  result.seconds = (performance.now() - began) / 1_000;
  await close();
  return result;
}

async function steady({ target, events, perSecond }: Extract<EventJob, { do: 'steady' }>): Promise<EventResult> {
  const { send, close } = sender(target, 64);
  const result = { accepted: 0, refused: 0, seconds: 0 };
  const began = performance.now();
  const pending: Promise<void>[] = [];
  for (let sent = 0; sent < events; sent += 1) {
    const due = began + (sent * 1_000) / perSecond;
    const wait = due - performance.now();
    if (wait > 0.5) await new Promise((resolve) => setTimeout(resolve, wait));
    pending.push(
      send(String(process.hrtime.bigint()), 0).then((accepted) => {
        if (accepted) result.accepted += 1;
        else result.refused += 1;
      }),
    );
  }
  await Promise.all(pending);
  result.seconds = (performance.now() - began) / 1_000;
  await close();
  return result;
}

async function work({ redis, queue, origin, path, concurrency }: Extract<EventJob, { do: 'work' }>): Promise<void> {
  const clients = Array.from({ length: concurrency }, () => new Client(origin, { pipelining: 1 }));
  const free = [...clients];
  const worker = new Worker(
    queue,
    async ({ data }) => {
      const client = free.pop()!;
      try {
        const { statusCode, body } = await client.request({
          method: 'POST',
          path,
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify(data),
        });
        await body.dump();
        if (statusCode >= 300) throw new Error(`the function answered ${statusCode}`);
      } finally {
        free.push(client);
      }
    },
    { connection: { port: redis.port, host: '127.0.0.1' }, concurrency },
  );
  await worker.waitUntilReady();
  process.stdout.write('ready\n');
  await new Promise((resolve) => process.stdin.once('close', resolve).resume());
  await worker.close(true);
  await Promise.all(clients.map((client) => client.close()));
}

/** Runs a job in a process of its own. */
export async function runEvents(job: Exclude<EventJob, { do: 'work' }>): Promise<EventResult> {
  const { stdout } = await execa(process.execPath, [fileURLToPath(import.meta.url), JSON.stringify(job)]);
  return JSON.parse(stdout) as EventResult;
}

/** Starts BullMQ's worker; resolves when it takes jobs. */
export async function startWorker(job: Extract<EventJob, { do: 'work' }>): Promise<{ pid: number; stop: () => Promise<void> }> {
  const child = execa(process.execPath, [fileURLToPath(import.meta.url), JSON.stringify(job)], { stdin: 'pipe', buffer: false });
  await new Promise<void>((resolve, reject) => {
    child.stdout.once('data', () => resolve());
    child.catch(reject);
  });
  return {
    pid: child.pid!,
    stop: async () => {
      child.stdin.end();
      await child;
    },
  };
}

if (import.meta.main) {
  const job = JSON.parse(process.argv[2] ?? '') as EventJob;
  if (job.do === 'work') {
    await work(job);
    process.exit(0);
  }
  process.stdout.write(JSON.stringify(await (job.do === 'fill' ? fill(job) : steady(job))));
}
