/** What every EventStore must do, whatever it writes to. */
import type { EventStorePlace } from './event-store.fixture.ts';
import { deliverySuite } from './event-store.delivery.ts';
import { keepingSuite } from './event-store.keeping.ts';
import { randomSuite } from './event-store.random.ts';

export function eventStoreSuite(makePlace: () => Promise<EventStorePlace>): void {
  deliverySuite(makePlace);
  keepingSuite(makePlace);
  randomSuite(makePlace);
}
