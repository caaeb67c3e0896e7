/** Webhooks: checked, and made events of the function's own lane. 202 is said only when the event is durable. */
import { createHash } from 'node:crypto';
import { ERRORS, type ErrorCode, FnError, PROBLEM_TYPE, problem } from '#contract/errors.ts';
import type { TriggerOf, TriggerStatus } from '#contract/trigger.ts';
import { timeOfDay } from '#kit/clock.ts';
import { decodeBody } from '#kit/event-body.ts';
import { newEventId } from '#kit/ids.ts';
import { matches } from '../core/event-filter.ts';
import type { NewEvent } from '../store/events.ts';
import type { SourceMessage } from '../triggers/types.ts';
import { attributesOf, binaryHeaders, filterView, parseJson } from './cloudevents.ts';
import { headerOf, pickHeaders } from './headers.ts';
import { encodePayload } from './payload.ts';
import type { FunctionEvents, TriggerHost, Triggers } from './types.ts';
import { signatureFault } from './webhook-signatures.ts';

/** A delivery with the same id is the same for so long, ms: senders try again for hours, some for days. */
const DEDUP_MS = 3 * 86_400_000;
const MAX_ID_LENGTH = 256;
/** Of the sender's headers those are not passed on: of the connection, of the platform, and attributes that we set. */
const DROPPED = new Set([
  'content-length',
  'content-type',
  'transfer-encoding',
  'connection',
  'keep-alive',
  'te',
  'trailer',
  'upgrade',
  'host',
  'expect',
  'traceparent',
  'tracestate',
]);
const RETRY_AFTER_SECONDS = 5;

type Message = Parameters<Triggers['webhook']>[0];
type Answer = Awaited<ReturnType<Triggers['webhook']>>;
type Webhook = TriggerOf<'webhook'>;
interface Target {
  of: FunctionEvents;
  trigger: Webhook;
}
interface Counts {
  accepted: number;
  refused: number;
  filtered: number;
  lastEventAt: number | null;
}

export class Webhooks {
  readonly #host: TriggerHost;
  readonly #counts = new WeakMap<Webhook, Counts>();

  constructor(host: TriggerHost) {
    this.#host = host;
  }

  status(_of: FunctionEvents, trigger: Webhook): TriggerStatus {
    const { accepted, refused, filtered, lastEventAt } = this.#countsOf(trigger);
    return {
      state: 'running',
      detail: refused === 0 ? null : `${refused} deliveries were refused`,
      lag: null,
      inFlight: 0,
      concurrency: trigger.concurrency ?? 0,
      succeeded: accepted,
      failed: 0,
      deadLettered: 0,
      filtered,
      lastEventAt,
      nextAt: null,
    };
  }

  /** `target`: null where there is no such trigger. Does not throw. */
  async receive(message: Message, target: Target | null): Promise<Answer> {
    // As any path that leads nowhere: whether there is such a function is nobody's business.
    if (target === null) return refusal('not-found', 'there is nothing here', message);
    try {
      return await this.#receive(message, target);
    } catch (error) {
      return this.#failure(error, message);
    }
  }

  async #receive(message: Message, { of, trigger }: Target): Promise<Answer> {
    const { clock } = this.#host;
    const counts = this.#countsOf(trigger);
    const body = decodeBody(message.request.body);
    const { headers } = message.request;
    const { verify } = trigger;
    const secret = verify.scheme === 'none' ? '' : this.#host.secret(of.namespace, verify.secret);
    const fault = signatureFault(verify, secret, { headers, body }, timeOfDay(clock));
    if (fault !== null) {
      counts.refused += 1;
      return refusal('unauthorized', `This webhook is not accepted: ${fault}.`, message);
    }
    if (!trigger.enabled) return refusal('conflict', 'This webhook is paused.', message);
    if (message.request.method !== 'POST') return refusal('method-not-allowed', 'Webhooks are sent with POST.', message);
    if (body.length > trigger.maxPayloadBytes)
      return refusal('body-too-large', `The body has ${body.length} bytes; this webhook takes ${trigger.maxPayloadBytes}.`, message);
    const challenge = verify.scheme === 'slack' ? challengeOf(body) : null;
    if (challenge !== null) return json(200, { challenge });
    const now = clock.wall();
    const delivery = deliveryId(trigger, headers, body);
    const event = eventOf(message, body, { of, trigger }, delivery, now);
    counts.lastEventAt = now;
    if (trigger.filter !== null && !matches(trigger.filter, filterView(event.message))) {
      counts.filtered += 1;
      return json(202, { filtered: true });
    }
    const [outcome] = await this.#host.enqueue([event.event]);
    if (outcome?.outcome === 'enqueued') counts.accepted += 1;
    return json(202, { id: outcome!.id });
  }

  #failure(error: unknown, message: Message): Answer {
    const known = error instanceof FnError ? error : null;
    const names = { namespace: message.namespace, function: message.name, trigger: message.trigger };
    this.#host.log.warn({ ...names, error: error instanceof Error ? error.message : String(error) }, 'a webhook could not be accepted');
    if (known?.code === 'backlog-full') return refusal('backlog-full', known.message, message, known.options.retryAfterSeconds);
    return refusal('events-unavailable', 'This webhook cannot be accepted now; send it again.', message, known?.options.retryAfterSeconds);
  }

  #countsOf(trigger: Webhook): Counts {
    let counts = this.#counts.get(trigger);
    if (counts === undefined) this.#counts.set(trigger, (counts = { accepted: 0, refused: 0, filtered: 0, lastEventAt: null }));
    return counts;
  }
}

const json = (status: number, value: unknown): Answer => ({
  status,
  headers: ['content-type', 'application/json'],
  body: Buffer.from(JSON.stringify(value)),
});

function refusal(code: ErrorCode, detail: string, { requestId }: Message, retryAfterSeconds?: number): Answer {
  const headers = ['content-type', PROBLEM_TYPE];
  const { status } = ERRORS[code];
  if (status === 503 || status === 429) headers.push('retry-after', String(Math.ceil(retryAfterSeconds ?? RETRY_AFTER_SECONDS)));
  if (status === 405) headers.push('allow', 'POST');
  if (status === 401) headers.push('www-authenticate', 'Signature');
  return { status, headers, body: Buffer.from(JSON.stringify(problem(code, detail, { instance: requestId }))) };
}

/** Slack asks so whether the URL is ours. */
function challengeOf(body: Buffer): string | null {
  const value = parseJson(body);
  if (typeof value !== 'object' || value === null || !('type' in value) || value.type !== 'url_verification') return null;
  return 'challenge' in value && typeof value.challenge === 'string' ? value.challenge : null;
}

/** Under which id the sender would send the same delivery again; null: he does not say. */
function deliveryId({ verify, idHeader }: Webhook, headers: readonly string[], body: Buffer): string | null {
  const id = idHeader === null ? ownId(verify.scheme, headers, body) : headerOf(headers, idHeader);
  if (id === null || id === '') return null;
  return id.length <= MAX_ID_LENGTH ? id : createHash('sha256').update(id).digest('hex');
}

function ownId(scheme: Webhook['verify']['scheme'], headers: readonly string[], body: Buffer): string | null {
  if (scheme === 'standard') return headerOf(headers, 'webhook-id') ?? headerOf(headers, 'svix-id');
  if (scheme === 'github') return headerOf(headers, 'x-github-delivery');
  const value = scheme === 'stripe' || scheme === 'slack' ? parseJson(body) : null;
  if (typeof value !== 'object' || value === null) return null;
  if (scheme === 'stripe' && 'id' in value && typeof value.id === 'string') return value.id;
  if (scheme === 'slack' && 'event_id' in value && typeof value.event_id === 'string') return value.event_id;
  return null;
}

function eventOf(
  { request, traceparent }: Message,
  body: Buffer,
  { of, trigger }: Target,
  delivery: string | null,
  now: number,
): { event: NewEvent; message: SourceMessage } {
  const { namespace, name } = of;
  const id = newEventId();
  const query = request.path.includes('?') ? request.path.slice(request.path.indexOf('?')) : '';
  const message: SourceMessage = {
    id: delivery ?? id,
    source: `/functions/${namespace}/${name}/triggers/${trigger.name}`,
    type: 'fn.webhook',
    subject: null,
    time: now,
    contentType: headerOf(request.headers, 'content-type'),
    data: body,
    extensions: {},
    deliveries: 1,
    orderKey: null,
  };
  const passed = pickHeaders(request.headers, (header) => !DROPPED.has(header) && !/^(?:ce-|fn-|x-request-id$)/.test(header));
  const headers = [...binaryHeaders(attributesOf(message, trigger.name, null)), ...passed];
  const path = joinQuery(trigger.path, query);
  const event: NewEvent = {
    id,
    lane: `${namespace}/${name}`,
    namespace,
    name,
    trigger: trigger.name,
    // What is in it is the sender's affair: a delivery that is sent again may carry another time of sending.
    dedup: delivery === null ? null : { key: delivery, fingerprint: 'webhook', until: now + DEDUP_MS },
    orderKey: null,
    createdAt: now,
    dueAt: now,
    expiresAt: now + trigger.maxAgeSeconds * 1_000,
    payload: encodePayload({ kind: 'queue', revision: null, traceparent, method: 'POST', path, headers, body }),
  };
  return { event, message };
}

const joinQuery = (path: string, query: string): string => {
  if (query.length <= 1) return path;
  return path.includes('?') ? `${path}&${query.slice(1)}` : path + query;
};
