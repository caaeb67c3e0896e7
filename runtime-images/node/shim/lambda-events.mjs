/** Events as AWS's own services bring them to a Lambda handler: SQS's records, EventBridge's schedule. */
import { timeOf } from './cloudevents.mjs';

/** @typedef {import('./cloudevents.mjs').CloudEvent} CloudEvent */
/** @typedef {import('./cloudevents.mjs').Received} Received */

/** Told elsewhere in the record. */
const NOT_ATTRIBUTES = new Set(['specversion', 'id', 'source', 'time', 'data', 'attempt']);

/** @param {Received[]} events */
export const sqsEvent = (events) => ({ Records: events.map(sqsRecord) });

/** @param {Received} received */
function sqsRecord({ event, raw }) {
  const { createHash } = process.getBuiltinModule('node:crypto');
  const isText = typeof raw === 'string';
  const body = isText ? raw : Buffer.from(raw.buffer, raw.byteOffset, raw.length).toString('base64');
  const sent = String(timeOf(event));
  /** @type {Record<string, object>} */
  const messageAttributes = {};
  for (const [name, value] of Object.entries(event)) {
    if (NOT_ATTRIBUTES.has(name)) continue;
    messageAttributes[name] = { stringValue: String(value), stringListValues: [], binaryListValues: [], dataType: 'String' };
  }
  return {
    messageId: event.id,
    receiptHandle: event.id,
    body,
    attributes: {
      ApproximateReceiveCount: String(event.attempt ?? 1),
      SentTimestamp: sent,
      SenderId: event.source,
      ApproximateFirstReceiveTimestamp: sent,
      ...(event.partitionkey === undefined ? {} : { MessageGroupId: String(event.partitionkey) }),
    },
    messageAttributes,
    // Part of the shape; a checksum here, and no matter of security.
    md5OfBody: createHash('md5').update(body).digest('hex'),
    eventSource: `fn:${event.type.replace(/^fn\./, '')}`,
    eventSourceARN: event.source,
    awsRegion: '',
    // Not of AWS, whose bodies are text: it says that the body had to be made text.
    ...(isText ? {} : { isBase64Encoded: true }),
  };
}

/** @param {import('./events.mjs').ScheduledEvent} scheduled */
export function scheduledEvent({ id, scheduledTime, data, event }) {
  return {
    version: '0',
    id,
    'detail-type': 'Scheduled Event',
    source: 'aws.events',
    account: '',
    time: new Date(scheduledTime).toISOString().replace(/\.\d+Z$/, 'Z'),
    region: '',
    resources: [event.source],
    detail: data ?? {},
  };
}

/** What a handler returned that tells no success from failure: all of the batch counts as failed, as with AWS. */
export class BadBatchResponse extends Error {}

/**
 * What failed, by what a handler of Records returned. Nothing, and what has no batchItemFailures, is success of all. Throws BadBatchResponse.
 * @param {any} result
 * @param {Received[]} events
 * @returns {import('./queue.mjs').Failure[]}
 */
export function batchItemFailures(result, events) {
  const given = typeof result === 'object' && result !== null ? result.batchItemFailures : null;
  if (given === null || given === undefined) return [];
  if (!Array.isArray(given)) throw new BadBatchResponse('batchItemFailures is not a list');
  const ids = new Set(events.map(({ event }) => event.id));
  return given.map((item) => {
    const id = item?.itemIdentifier;
    if (typeof id === 'string' && ids.has(id)) return { itemIdentifier: id };
    throw new BadBatchResponse(
      `batchItemFailures has the itemIdentifier ${String(JSON.stringify(id)).slice(0, 100)}, which is no messageId of the batch`,
    );
  });
}
