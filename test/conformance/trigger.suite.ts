/**
 * What every Source must do, whatever broker it takes from. A new adapter describes its broker in a SourceKind and calls
 * describeSource: see trigger.redis.test.ts.
 */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { BrokerTrigger } from '#contract/trigger.ts';
import { systemClock } from '#kit/clock.ts';
import type { Log } from '#kit/log.ts';
import type { OpenSource, ResolveHost, Source, SourceMessage } from '../../controller/triggers/types.ts';
import { range, waitFor } from '../helpers/wait.ts';

/** Stands in the password of URLs that must be refused: nothing may repeat it. */
export const CANARY = 'canary-9f8e7d6c5b4a';

/** One stream, list, queue, topic: empty, and no other test's. */
export interface SourceBench<T extends BrokerTrigger> {
  /** As for openSource: secrets are filled in. */
  trigger: T;
  /** Resolves when the broker has them all, in this order. */
  send(bodies: readonly (string | Uint8Array)[]): Promise<void>;
  /** Messages that the broker would still deliver or has delivered and not had acknowledged; null: nobody can tell. */
  unacknowledged(): Promise<number | null>;
  /** Removes what it made. Idempotent. */
  remove(): Promise<void>;
}

export interface SourceKind<T extends BrokerTrigger> {
  name: string;
  open: OpenSource<T>;
  /** Starts the broker; once for all tests. */
  start(): Promise<void>;
  stop(): Promise<void>;
  bench(): Promise<SourceBench<T>>;
  /** Ends the broker hard and starts it again, with all that it had acknowledged. */
  restart(): Promise<void>;
  /** The same trigger with a password (CANARY) that the broker refuses, or at a port where nobody listens. */
  refused(trigger: T): T;
  /** With it a new group begins with what is there already; null: the type has no such setting. */
  fromBeginning: ((trigger: T) => T) | null;
  /** Whether messages that were sent before the first receive are delivered by default. */
  keepsEarlier: boolean;
  /** Whether what one consumer released goes to another that is open beside it. */
  shared: boolean;
  /** Whether `deliveries` goes up when a message comes again after a consumer died with it. */
  counts: boolean;
  /** Longest until the broker gives a closed consumer's messages to another, ms. Default 15,000. */
  againWithinMs?: number;
}

export const direct: ResolveHost = async (host) => ({ host: host === 'localhost' ? '127.0.0.1' : host, servername: undefined });

/** Keeps what was logged, so that it can be searched. */
export function listeningLog(): Log & { lines: string[] } {
  const lines: string[] = [];
  const keep = (fields: object, message: string) => void lines.push(`${JSON.stringify(fields)} ${message}`);
  return { lines, debug: keep, info: keep, warn: keep, error: keep };
}

const never = () => new AbortController().signal;
export const textOf = (message: SourceMessage): string => Buffer.from(message.data).toString('utf8');

/** Receives until there are so many. What is thrown meanwhile (the broker is away) is tried again, as the runner does. */
export async function take(source: Source, count: number, timeoutMs = 60_000): Promise<SourceMessage[]> {
  const taken: SourceMessage[] = [];
  await waitFor(
    `${count} messages`,
    async () => {
      taken.push(...(await source.receive(count - taken.length, 500, never())));
      return taken.length >= count;
    },
    { timeoutMs },
  );
  return taken;
}

export function describeSource<T extends BrokerTrigger>(kind: SourceKind<T>): void {
  describe(`source: ${kind.name}`, () => {
    const opened: Source[] = [];
    let bench: SourceBench<T>;
    let consumers = 0;

    async function open(trigger: T = bench.trigger, log: Log = listeningLog()): Promise<Source> {
      const consumer = `c${process.pid}-${++consumers}`;
      const common = { namespace: 'default', name: 'orders', installation: 'test', resolve: direct, clock: systemClock, log };
      const source = await kind.open({ ...common, trigger, consumer });
      opened.push(source);
      return source;
    }

    /** Open, and known to the broker: what is sent from now on is for it. */
    async function listening(trigger: T = bench.trigger): Promise<Source> {
      const source = await open(trigger);
      await waitFor('the source to listen', async () => {
        expect(await source.receive(1, 1, never())).toEqual([]);
        return true;
      });
      return source;
    }

    const settled = () =>
      waitFor('the broker to have nothing left', async () => {
        const left = await bench.unacknowledged();
        return left === null || left === 0;
      });

    beforeEach(async () => {
      await kind.start();
      bench = await kind.bench();
    });

    afterEach(async () => {
      await Promise.allSettled(opened.splice(0).map((source) => source.close()));
      await bench.remove();
    });

    it('gives what was sent, in order, with an id and a source', async () => {
      const source = await listening();
      await bench.send(['one', 'two', 'three']);
      const messages = await take(source, 3);
      expect(messages.map(textOf)).toEqual(['one', 'two', 'three']);
      expect(new Set(messages.map((message) => message.id)).size).toBe(3);
      for (const message of messages) {
        expect(message.source).not.toBe('');
        expect(message.source).not.toContain('@');
        expect(message.type).not.toBe('');
        expect(message.deliveries).toBe(1);
        for (const name of Object.keys(message.extensions)) expect(name).toMatch(/^[a-z0-9]+$/);
      }
      await source.ack(messages);
      await settled();
    });

    it('gives at most as many as were asked for', async () => {
      const source = await listening();
      await bench.send(range(5).map((n) => `m${n}`));
      const first = await waitFor('a message', async () => {
        const some = await source.receive(2, 500, never());
        return some.length > 0 && some;
      });
      expect(first.length).toBeLessThanOrEqual(2);
      const rest = await take(source, 5 - first.length);
      expect([...first, ...rest].map(textOf)).toEqual(range(5).map((n) => `m${n}`));
    });

    it('gives none when there are none, and none when it is aborted', async () => {
      const source = await listening();
      expect(await source.receive(10, 50, never())).toEqual([]);
      const abort = new AbortController();
      const waiting = source.receive(10, 60_000, abort.signal);
      abort.abort();
      expect(await waiting).toEqual([]);
      expect(await source.receive(10, 60_000, AbortSignal.abort())).toEqual([]);
    });

    it('still gives what came while a receive was aborted', async () => {
      const source = await listening();
      const abort = new AbortController();
      const waiting = source.receive(10, 60_000, abort.signal);
      const sent = bench.send(['a', 'b']);
      abort.abort();
      const early = await waiting;
      await sent;
      expect(early).toEqual([]);
      expect((await take(source, 2)).map(textOf).sort()).toEqual(['a', 'b']);
    });

    it('gives an acknowledged one never again, one that was not again under the same id', async () => {
      const source = await listening();
      await bench.send(['done', 'not done']);
      const messages = await take(source, 2);
      await source.ack(messages.filter((message) => textOf(message) === 'done'));
      await source.close();
      const next = await open();
      const again = await take(next, 1, kind.againWithinMs);
      expect(again.map(textOf)).toEqual(['not done']);
      const before = messages.find((message) => textOf(message) === 'not done');
      expect({ id: again[0]!.id, source: again[0]!.source }).toEqual({ id: before!.id, source: before!.source });
      await next.ack(again);
      await settled();
      expect(await next.receive(10, 300, never())).toEqual([]);
    });

    it('delivers what was released again', async () => {
      const source = await listening();
      await bench.send(['back']);
      const [first] = await take(source, 1);
      await source.release([first!]);
      const other = kind.shared ? await open() : source;
      const [second] = await take(other, 1, kind.againWithinMs);
      expect([textOf(second!), second!.id]).toEqual(['back', first!.id]);
      await other.ack([second!]);
      await settled();
    });

    it('is touched without harm, and nothing held is given twice', async () => {
      const source = await listening();
      await bench.send(['held']);
      const held = await take(source, 1);
      await source.touch(held);
      expect(await source.receive(10, 1_200, never())).toEqual([]);
      await source.touch(held);
      await source.ack(held);
      await settled();
    });

    it('tells how many wait, where it can', async () => {
      const source = await listening();
      await bench.send(range(7).map(String));
      const lag = await source.lag();
      if (lag !== null) await waitFor('the lag', async () => (await source.lag()) === 7);
      await source.ack(await take(source, 7));
      if (lag !== null) await waitFor('no lag', async () => (await source.lag()) === 0);
      await settled();
      expect(await source.lag()).toBe(lag === null ? null : 0);
    });

    it('takes a message of a mebibyte and an empty one, byte by byte', async () => {
      const source = await listening();
      const large = Buffer.alloc(1_048_576, Uint8Array.from(range(256)));
      await bench.send([large, '']);
      const messages = await take(source, 2);
      expect(Buffer.compare(Buffer.from(messages[0]!.data), large)).toBe(0);
      expect(messages[1]!.data.length).toBe(0);
      await source.ack(messages);
      await settled();
    });

    it('goes on after the broker was restarted, and what was not acknowledged comes again', async () => {
      const source = await listening();
      await bench.send(['before']);
      const [before] = await take(source, 1);
      await kind.restart();
      // Whether it can still be acknowledged is the broker's affair. It says so, or has forgotten it.
      const acknowledged = await source.ack([before!]).then(
        () => true,
        () => false,
      );
      await waitFor('the broker to take messages', async () => {
        await bench.send(['after']);
        return true;
      });
      const seen = new Map<string, string>();
      await waitFor(
        'the rest',
        async () => {
          const messages = await source.receive(10, 500, never());
          for (const message of messages) seen.set(message.id, textOf(message));
          await source.ack(messages);
          return [...seen.values()].includes('after') && (await bench.unacknowledged().catch(() => 1)) !== 1;
        },
        { timeoutMs: 60_000 },
      );
      for (const [id, text] of seen) if (text === 'before') expect(id).toBe(before!.id);
      expect([...seen.values()].filter((text) => text === 'before').length).toBeLessThanOrEqual(acknowledged ? 0 : 1);
      await settled();
    });

    it('begins where it was told to', async () => {
      await bench.send(['early']);
      const trigger = kind.fromBeginning === null ? bench.trigger : kind.fromBeginning(bench.trigger);
      if (kind.fromBeginning === null && !kind.keepsEarlier) return;
      const source = await open(trigger);
      const messages = await take(source, 1);
      expect(messages.map(textOf)).toEqual(['early']);
      await source.ack(messages);
    });

    it('begins with what comes from now on, where that is the default', async () => {
      await bench.send(['early']);
      const source = await open();
      if (kind.keepsEarlier) {
        expect((await take(source, 1)).map(textOf)).toEqual(['early']);
        return;
      }
      await waitFor('the source to listen', async () => {
        expect(await source.receive(1, 1, never())).toEqual([]);
        return true;
      });
      await bench.send(['late']);
      expect((await take(source, 1)).map(textOf)).toEqual(['late']);
    });

    it('counts the deliveries of a message whose consumer ended without a word, where the broker does', async () => {
      const source = await listening();
      await bench.send(['twice']);
      const [first] = await take(source, 1);
      expect(first!.deliveries).toBe(1);
      await source.close();
      const next = await open();
      const [again] = await take(next, 1, kind.againWithinMs);
      expect(again!.deliveries).toBeGreaterThanOrEqual(1);
      if (kind.counts) expect(again!.deliveries).toBeGreaterThanOrEqual(2);
      await next.ack([again!]);
    });

    it('closes more than once, and takes nothing afterwards', async () => {
      const source = await listening();
      await bench.send(['left']);
      const waiting = source.receive(1, 60_000, never());
      await Promise.allSettled([waiting]);
      await Promise.all([source.close(), source.close()]);
      await source.close();
      const outcome = await source.receive(1, 10, never()).then(
        (messages) => messages.length,
        () => 0,
      );
      expect(outcome).toBe(0);
    });

    it('ends a receive that waits when it is closed', async () => {
      const source = await listening();
      const waiting = source.receive(1, 60_000, never()).then(
        (messages) => messages.length,
        () => 0,
      );
      await source.close();
      expect(await waiting).toBe(0);
    });

    it('says why the broker is out of reach, without its password', async () => {
      const log = listeningLog();
      const source = await open(kind.refused(bench.trigger), log);
      const failure = await waitFor('a failure', () =>
        source.receive(1, 200, never()).then(
          () => null,
          (error: unknown) => error,
        ),
      );
      expect(failure).toBeInstanceOf(Error);
      const shown = failure as Error & { cause?: unknown } satisfies Error;
      expect(shown.message.length).toBeGreaterThan(5);
      const all = [shown.stack, JSON.stringify(shown), JSON.stringify(Object.values(shown)), String(shown.cause ?? ''), ...log.lines];
      for (const text of all) expect(text ?? '').not.toContain(CANARY);
      await source.close();
    });

    it('may not dial where it must not', async () => {
      const common = { namespace: 'default', name: 'orders', installation: 'test', clock: systemClock, log: listeningLog() };
      const forbidden: ResolveHost = async (host) => {
        throw new Error(`${host} may not be dialled`);
      };
      const source = await kind.open({ ...common, trigger: bench.trigger, consumer: 'nobody', resolve: forbidden });
      opened.push(source);
      await expect(source.receive(1, 200, never())).rejects.toThrow('may not be dialled');
    });
  });
}
