/** A batch of messages as a function is called with it. */
import type { BrokerTrigger } from '#contract/trigger.ts';
import { attributesOf, batchItem, batchRequest, binaryRequest } from './cloudevents.ts';
import { MAX_BATCH_ANSWER_BYTES } from './trigger-answer.ts';
import type { Held } from './trigger-queue.ts';
import type { Delivery, FunctionEvents } from './types.ts';

const TRACEPARENT = /^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/;

/** Binary mode for triggers with batches of one, else the batch format. One message brings the trace that it belongs to along. */
export function deliveryOf({ namespace, name }: FunctionEvents, trigger: BrokerTrigger, batch: readonly Held[]): Delivery {
  const events = batch.map(({ message, attempts }) => ({
    attributes: attributesOf(message, trigger.name, attempts + 1),
    data: message.data,
  }));
  const trace = batch.length === 1 ? batch[0]!.message.extensions.traceparent : undefined;
  return {
    namespace,
    name,
    revision: null,
    kind: 'queue',
    request: trigger.batchSize === 1 ? binaryRequest(trigger.path, events[0]!) : batchRequest(trigger.path, events.map(batchItem)),
    traceparent: trace !== undefined && TRACEPARENT.test(trace) ? trace : null,
    maxResponseBytes: MAX_BATCH_ANSWER_BYTES,
  };
}
