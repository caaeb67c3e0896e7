/** The events that this gateway is delivering now, and how they are let in. */
import { type ErrorCode, problem } from '#contract/errors.ts';
import { ByteBudget } from './byte-budget.ts';
import type { ForwardContext } from './context.ts';
import { type Delivered, Delivery, type DeliveryOwner } from './delivery.ts';
import type { Deliver } from './events-link.ts';
import { isReserved } from './routes.ts';

/** Bodies of events that are being delivered, bytes in all. How many there are at a time is the dispatcher's to limit. */
export const MAX_DELIVERING_BYTES = 256 * 1_024 * 1_024;
/** For what can be delivered by another gateway, or a moment later. */
const RETRY_AFTER_SECONDS = 1;

export interface DeliveriesOptions {
  context: ForwardContext;
  newRequestId: () => string;
  /** False where the dispatcher is gone. */
  tell: (result: Delivered) => boolean;
}

export class Deliveries implements DeliveryOwner {
  readonly #options: DeliveriesOptions;
  readonly #running = new Set<Delivery>();
  /** By the number that the dispatcher gave them; anew with each link. */
  #bySeq = new Map<number, Delivery>();
  /** Whose namespaces count what is done for them. */
  readonly #counted = new Set<Delivery>();
  readonly #bodies = new ByteBudget(MAX_DELIVERING_BYTES);

  constructor(options: DeliveriesOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#running.size;
  }

  deliver(message: Deliver): void {
    const { context, newRequestId } = this.#options;
    const { namespace, name, revision, request } = message;
    if (context.draining) return this.#refuse(message, 'shutting-down', 'this gateway is about to end');
    if (!context.routes.ready) return this.#refuse(message, 'not-ready', 'the routes are not known yet');
    const match = context.routes.named(namespace, name, revision, request.path);
    if ('code' in match) return this.#refuse(message, match.code, match.detail);
    if (!request.path.startsWith('/') || isReserved(request.path))
      return this.#refuse(message, 'not-found', 'paths under /.fn/ belong to the runtime');
    const verdict = context.gatekeeper.checkDelivery(namespace);
    if (typeof verdict !== 'string') return this.#refuse(message, verdict.code, verdict.detail);
    const delivery = new Delivery(context, match, newRequestId(), message, this);
    if (!this.#bodies.take(delivery.namespace, delivery.bodyBytes)) {
      if (verdict === 'counted') context.gatekeeper.leave(namespace);
      return this.#refuse(message, 'no-capacity', 'too much is being delivered by this gateway');
    }
    if (verdict === 'counted') this.#counted.add(delivery);
    this.#bySeq.set(message.seq, delivery);
    this.#running.add(delivery);
    delivery.begin();
  }

  abandon(seq: number): void {
    this.#bySeq.get(seq)?.abandon();
  }

  /** They go on to their end, of which nobody is told. */
  linkDown(): void {
    this.#bySeq = new Map();
  }

  /** Ends all: nothing more is waited for. */
  abandonAll(): void {
    for (const delivery of this.#running) delivery.abandon();
  }

  onDelivered(delivery: Delivery, result: Delivered | null): void {
    this.#running.delete(delivery);
    this.#bodies.give(delivery.namespace, delivery.bodyBytes);
    if (this.#counted.delete(delivery)) this.#options.context.gatekeeper.leave(delivery.namespace);
    // Of a link that is gone: the number may be another's by now.
    if (this.#bySeq.get(delivery.seq) !== delivery) return;
    this.#bySeq.delete(delivery.seq);
    if (result !== null) this.#options.tell(result);
  }

  /** It has not come to a call. */
  #refuse({ seq }: Deliver, code: ErrorCode, detail: string): void {
    const requestId = this.#options.newRequestId();
    const reason = problem(code, detail, { instance: requestId });
    this.#options.tell({
      type: 'delivered',
      seq,
      requestId,
      instance: null,
      revision: null,
      response: null,
      problem: reason,
      retryAfterSeconds: reason.status === 503 || reason.status === 429 ? RETRY_AFTER_SECONDS : null,
      waitedMs: 0,
      ranMs: 0,
    });
  }
}
