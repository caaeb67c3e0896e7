/** Dead letters of a trigger: kept durably, by us or by the destination that it names, before the broker may forget the message. */
import { createHash } from 'node:crypto';
import type { DeadLetterView, EventError } from '#contract/events.ts';
import type { BrokerTrigger } from '#contract/trigger.ts';
import { backoffMs } from '#kit/backoff.ts';
import { sleep } from '#kit/clock.ts';
import { newEventId } from '#kit/ids.ts';
import type { NewDeadLetter } from '../store/events.ts';
import type { OutgoingEvent, SourceMessage } from '../triggers/types.ts';
import { attributesOf, binaryHeaders } from './cloudevents.ts';
import { encodePayload } from './payload.ts';
import type { FunctionEvents, TriggerHost } from './types.ts';

const RETRY = { baseMs: 500, maxMs: 30_000 };
/** Longest text in an extension attribute, characters. */
const MAX_TEXT = 500;

export interface Death {
  message: SourceMessage;
  reason: DeadLetterView['reason'];
  error: EventError;
  attempts: number;
  /** x-request-id of the newest attempt. */
  request: string | null;
}

interface GraveOptions {
  host: TriggerHost;
  of: FunctionEvents;
  trigger: BrokerTrigger;
  /** Why it cannot be kept now; null: it could. */
  troubled(reason: string | null): void;
}

/** Keeps a message as a dead letter, and tries until it is kept. False: aborted before that. */
export async function bury(death: Death, { host, of, trigger, troubled }: GraveOptions, signal: AbortSignal): Promise<boolean> {
  const letter = letterOf(death, host, of, trigger);
  for (let attempt = 1; ; attempt++) {
    if (signal.aborted) return false;
    try {
      if (trigger.deadLetter === null) await host.store.addDead([letter]);
      else await host.publish(of, trigger.deadLetter, noticeOf(death, of, trigger));
      if (attempt > 1) troubled(null);
      return true;
    } catch (error) {
      troubled(`a dead letter cannot be kept: ${error instanceof Error ? error.message : String(error)}`);
      // Aborted: the loop sees it.
      await sleep(backoffMs(attempt, RETRY), signal).catch(() => {});
    }
  }
}

function letterOf({ message, reason, error, attempts, request }: Death, host: TriggerHost, of: FunctionEvents, trigger: BrokerTrigger) {
  const { namespace, name } = of;
  const at = host.clock.wall();
  const body = Buffer.from(message.data.buffer, message.data.byteOffset, message.data.byteLength);
  const headers = binaryHeaders(attributesOf(message, trigger.name, null));
  const letter: NewDeadLetter = {
    event: {
      id: newEventId(),
      lane: `${namespace}/${name}`,
      namespace,
      name,
      trigger: trigger.name,
      dedup: null,
      orderKey: null,
      createdAt: message.time ?? at,
      dueAt: at,
      expiresAt: at + trigger.maxAgeSeconds * 1_000,
      payload: encodePayload({ kind: 'queue', revision: null, traceparent: null, method: 'POST', path: trigger.path, headers, body }),
    },
    message: nameOf(message, trigger),
    reason,
    error,
    attempts,
    request,
    deadAt: at,
    keptUntil: at + trigger.deadLetterSeconds * 1_000,
  };
  return letter;
}

/**
 * The broker's own id, where that is one. What a producer calls its message may stand on two: then what is in it
 * tells them apart, so that the second one is not taken for the first.
 */
function nameOf({ id, type, source, data }: SourceMessage, trigger: BrokerTrigger): string {
  if (type === `fn.${trigger.type}` && trigger.type !== 'rabbitmq') return id;
  return `${id}#${createHash('sha256').update(source).update('\n').update(data).digest('hex').slice(0, 12)}`;
}

/** The event as it came, and why it failed. */
function noticeOf({ message, reason, error, attempts }: Death, of: FunctionEvents, trigger: BrokerTrigger): OutgoingEvent {
  const attributes = {
    ...attributesOf(message, trigger.name, null),
    deadreason: reason,
    deaderror: error.code,
    deaddetail: error.detail.slice(0, MAX_TEXT),
    deadattempts: String(attempts),
    deadfunction: `${of.namespace}/${of.name}`,
  };
  return { attributes, data: message.data };
}
