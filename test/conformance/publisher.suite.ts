/** What every destination on a broker must do: an event that is confirmed arrives as the CloudEvent that it was. */
import { describe, expect, it } from 'vitest';
import { systemClock } from '#kit/clock.ts';
import type { BrokerDestination, OpenPublisher, OpenSource, OutgoingEvent, Source } from '../../controller/triggers/types.ts';
import type { BrokerTrigger } from '#contract/trigger.ts';
import { range } from '../helpers/wait.ts';
import { CANARY, type SourceKind, direct, listeningLog, take, textOf } from './trigger.suite.ts';

export interface PublisherKind<T extends BrokerTrigger, D extends BrokerDestination> extends Pick<
  SourceKind<T>,
  'name' | 'bench' | 'start'
> {
  openSource: OpenSource<T>;
  openPublisher: OpenPublisher<D>;
  /** What the trigger of a bench takes from. */
  destinationOf(trigger: T): D;
  /** At a broker where nobody listens, with a password (CANARY). */
  unreachable(destination: D): D;
  /** Where nothing would keep the event; null: the broker takes it all the same. */
  nowhere: ((destination: D) => D) | null;
}

export const event = (id: string, attributes: Record<string, string> = {}): OutgoingEvent => ({
  attributes: {
    ...{ specversion: '1.0', id, source: '/functions/default/orders', type: 'fn.invocation.failed', subject: 'über 100 %' },
    ...{ time: '2026-01-02T03:04:05.678Z', datacontenttype: 'application/json', reason: 'a "b" ü', ...attributes },
  },
  data: Buffer.from('{"a":[1,"ü"]}'),
});

export function describePublisher<T extends BrokerTrigger, D extends BrokerDestination>(kind: PublisherKind<T, D>): void {
  describe(`destination: ${kind.name}`, () => {
    async function open(): Promise<{ source: Source; destination: D; end(): Promise<void> }> {
      await kind.start();
      const bench = await kind.bench();
      const common = { namespace: 'default', name: 'orders', installation: 'test', consumer: 'c', resolve: direct, clock: systemClock };
      const source = await kind.openSource({ ...common, trigger: bench.trigger, log: listeningLog() });
      expect(await source.receive(1, 1, new AbortController().signal)).toEqual([]);
      const end = async () => {
        await source.close();
        await bench.remove();
      };
      return { source, destination: kind.destinationOf(bench.trigger), end };
    }
    const publisherOf = (destination: D, log = listeningLog()) =>
      kind.openPublisher({ destination, resolve: direct, clock: systemClock, log });

    it('brings an event with all that it says', async () => {
      const { source, destination, end } = await open();
      const publisher = await publisherOf(destination);
      try {
        await publisher.publish(event('e-1'));
        await Promise.all(range(20).map((n) => publisher.publish(event(`m-${n}`))));
        const messages = await take(source, 21);
        const first = messages.find(({ id }) => id === 'e-1');
        expect(first).toMatchObject({
          ...{ source: '/functions/default/orders', type: 'fn.invocation.failed', subject: 'über 100 %' },
          ...{ time: Date.parse('2026-01-02T03:04:05.678Z'), contentType: 'application/json', extensions: { reason: 'a "b" ü' } },
        });
        expect(textOf(first!)).toBe('{"a":[1,"ü"]}');
        expect(new Set(messages.map(({ id }) => id)).size).toBe(21);
        await source.ack(messages);
      } finally {
        await publisher.close();
        await end();
      }
    });

    it('throws where it is not sure, and tells no password', async () => {
      const { destination, end } = await open();
      const log = listeningLog();
      const unreachable = await publisherOf(kind.unreachable(destination), log);
      try {
        const failure = await unreachable.publish(event('e-2')).then(
          () => null,
          (error: unknown) => error,
        );
        expect(failure).toBeInstanceOf(Error);
        expect([String(failure), JSON.stringify(failure), ...log.lines].join('\n')).not.toContain(CANARY);
        if (kind.nowhere !== null) {
          const nowhere = await publisherOf(kind.nowhere(destination), log);
          await expect(nowhere.publish(event('e-3'))).rejects.toThrow(/./);
          await nowhere.close();
        }
      } finally {
        await unreachable.close();
        await unreachable.close();
        await end();
      }
    });
  });
}
