/** Triggers: what turns messages of a broker, ticks of a schedule and webhooks into invocations of a function. */
import { z } from 'zod';
import {
  AmqpUrl,
  BrokerName,
  Destination,
  KafkaCluster,
  MAX_EVENT_BYTES,
  MqttUrl,
  NatsUrl,
  RedisUrl,
  RetrySettings,
  secretReferences,
} from './events.ts';
import { FunctionName, LABEL_PATTERN, Namespace, SecretName } from './names.ts';

/** Most triggers of a function. */
export const MAX_TRIGGERS = 32;

export const TriggerName = z
  .string()
  .regex(LABEL_PATTERN, 'a trigger name must be 1–63 characters of a–z, 0–9 and -, and not begin or end with -');

/**
 * Which events are wanted, as Lambda's filters and EventBridge have it: an object of the same shape as the
 * event, with lists of what a value may be at its leaves. Matched against
 * `{id, source, type, subject, time, data, …extensions}`; `data` is parsed where it is JSON.
 *
 *     {"data": {"status": ["paid"], "amount": [{"numeric": [">", 100]}], "country": [{"anything-but": ["XX"]}]}}
 *
 * Leaves: a value; {prefix}, {suffix}, {anything-but}, {exists}, {numeric: [op, n, op, n]}, {equals-ignore-case}.
 * What does not match is acknowledged and counted, and reaches no function.
 */
export const EventFilter = z
  .record(z.string().max(200), z.unknown())
  .refine((filter) => JSON.stringify(filter).length <= 4_096, { message: 'is over 4 KiB' });
export type EventFilter = z.infer<typeof EventFilter>;

/** What all triggers have. */
const COMMON = {
  /** Unique among those of the function; default: its type, with a number where there is one already. */
  name: TriggerName,
  /** false: paused. What is in flight ends; nothing more is taken from the broker. */
  enabled: z.boolean().default(true),
  /** Path that the function is called with. */
  path: z
    .string()
    .max(1_000)
    .regex(/^\/[\x21-\x7e]*$/, 'must begin with / and hold no spaces')
    .refine((path) => !path.startsWith('/.fn'), { message: 'paths under /.fn/ belong to the runtime' })
    .default('/'),
  /** How often an event is tried in all, before it is dead-lettered. */
  maxAttempts: z.number().int().min(1).max(100).default(5),
  /** From its first attempt on, an event is tried for so long, seconds. */
  maxAgeSeconds: z.number().min(1).max(1_209_600).default(21_600),
  ...RetrySettings,
  filter: EventFilter.nullable().default(null),
  /** A longer one is dead-lettered as it is, bytes. */
  maxPayloadBytes: z.number().int().min(1).max(MAX_EVENT_BYTES).default(MAX_EVENT_BYTES),
  /** Where events go that failed for the last time. null: to the function's own dead-letter queue (fn dlq). */
  deadLetter: Destination.nullable().default(null),
  /** How long they are kept there, seconds. */
  deadLetterSeconds: z.number().min(60).max(31_536_000).default(1_209_600),
};

/** Of those that bring many. */
const MANY = {
  /** Most events of one call. 1: an event a call, in CloudEvents' binary mode; above it always in the batch format. */
  batchSize: z.number().int().min(1).max(1_000).default(1),
  /** How long a batch that is not full waits for more, ms. */
  batchWindowMs: z.number().int().min(0).max(300_000).default(0),
  /** Most calls at a time. null: as many as drain the backlog within half a minute, and its instances can take. */
  concurrency: z.number().int().min(1).max(1_000).nullable().default(null),
};

/** Where a new group of consumers begins: with what comes from now on, or with the oldest that there is. */
const StartFrom = z.enum(['new', 'beginning']).default('new');

/** Shapes by type, without what the wrapper refines. */
export const RedisStreamTrigger = z.strictObject({
  type: z.literal('redis-stream'),
  ...COMMON,
  ...MANY,
  url: RedisUrl,
  stream: BrokerName,
  /** Group of consumers, made where it is missing. Default: fn:NAMESPACE:FUNCTION:TRIGGER. */
  group: BrokerName.optional(),
  startFrom: StartFrom,
  /** The field that is the data of the event. null: all fields, as a JSON object. */
  field: z.string().max(255).nullable().default(null),
});
export const RedisListTrigger = z.strictObject({
  type: z.literal('redis-list'),
  ...COMMON,
  ...MANY,
  url: RedisUrl,
  list: BrokerName,
  /** The end that is taken from: LPUSH fills on the left, so the oldest is on the right. */
  from: z.enum(['right', 'left']).default('right'),
});
export const RabbitmqTrigger = z.strictObject({
  type: z.literal('rabbitmq'),
  ...COMMON,
  ...MANY,
  url: AmqpUrl,
  queue: BrokerName,
  /** Makes the queue (durable) where it is missing; false: it must be there. */
  declare: z.boolean().default(true),
  /** Binds it to an exchange that is there. */
  bind: z
    .strictObject({ exchange: BrokerName, routingKey: z.string().max(255).default('#') })
    .nullable()
    .default(null),
});
export const NatsTrigger = z.strictObject({
  type: z.literal('nats'),
  ...COMMON,
  ...MANY,
  url: NatsUrl,
  /** JetStream's stream; it must be there. */
  stream: BrokerName,
  /** Of its subjects, those that match. null: all. */
  subject: BrokerName.nullable().default(null),
  /** Durable consumer, made where it is missing. Default: fn-NAMESPACE-FUNCTION-TRIGGER. */
  consumer: z
    .string()
    .max(200)
    .regex(/^[A-Za-z0-9_-]+$/)
    .optional(),
  startFrom: StartFrom,
});
export const MqttTrigger = z.strictObject({
  type: z.literal('mqtt'),
  ...COMMON,
  ...MANY,
  url: MqttUrl,
  /** Filter with + and #. */
  topic: BrokerName,
  qos: z.number().int().min(0).max(2).default(1),
  /** By it the broker keeps what comes while the trigger is away. Default: fn-NAMESPACE-FUNCTION-TRIGGER-INSTALLATION. */
  clientId: z.string().min(1).max(100).optional(),
});
export const KafkaTrigger = z.strictObject({
  type: z.literal('kafka'),
  ...COMMON,
  ...MANY,
  ...KafkaCluster,
  topic: BrokerName,
  /** Group of consumers. Default: fn-NAMESPACE-FUNCTION-TRIGGER. */
  group: BrokerName.optional(),
  startFrom: StartFrom,
});
export const CronTrigger = z.strictObject({
  type: z.literal('cron'),
  ...COMMON,
  /** Five fields, or six with seconds before them; @hourly, @daily, @weekly, @monthly, @yearly. */
  schedule: z.string().min(1).max(200),
  /** IANA name. */
  timezone: z.string().min(1).max(100).default('UTC'),
  /** What becomes of ticks that passed while the platform was away or the trigger paused: nothing, one for all of them, each (100 at most). */
  missed: z.enum(['skip', 'once', 'all']).default('once'),
  /** Data of the event, JSON. */
  data: z
    .unknown()
    .refine((data) => data === undefined || (JSON.stringify(data)?.length ?? 0) <= 65_536, { message: 'is over 64 KiB' })
    .optional(),
});

/** How a webhook shows whose it is. `hmac`: hex or base64 of HMAC-SHA-256 of the body in a header, with a prefix or without. */
export const WebhookVerification = z.discriminatedUnion('scheme', [
  z.strictObject({ scheme: z.literal('standard'), secret: SecretName }),
  z.strictObject({ scheme: z.literal('github'), secret: SecretName }),
  z.strictObject({ scheme: z.literal('stripe'), secret: SecretName }),
  z.strictObject({ scheme: z.literal('slack'), secret: SecretName }),
  z.strictObject({
    scheme: z.literal('hmac'),
    secret: SecretName,
    header: z
      .string()
      .max(100)
      .regex(/^[!#$%&'*+.^_`|~0-9a-z-]+$/, 'must be a header name in lower case'),
    encoding: z.enum(['hex', 'base64']).default('hex'),
    prefix: z.string().max(50).default(''),
  }),
  /** Anybody who knows the URL. */
  z.strictObject({ scheme: z.literal('none') }),
]);
export const WebhookTrigger = z.strictObject({
  type: z.literal('webhook'),
  ...COMMON,
  verify: WebhookVerification,
  /** Header with the id of the delivery: the same id a second time makes no second event. null: what the scheme has. */
  idHeader: z
    .string()
    .max(100)
    .regex(/^[!#$%&'*+.^_`|~0-9a-z-]+$/, 'must be a header name in lower case')
    .nullable()
    .default(null),
  /** Most calls at a time. null: as many as its instances can take. */
  concurrency: z.number().int().min(1).max(1_000).nullable().default(null),
});

export const Trigger = z
  .discriminatedUnion('type', [
    RedisStreamTrigger,
    RedisListTrigger,
    RabbitmqTrigger,
    NatsTrigger,
    MqttTrigger,
    KafkaTrigger,
    CronTrigger,
    WebhookTrigger,
  ])
  .refine((trigger) => trigger.retryBaseSeconds <= trigger.retryMaxSeconds, {
    message: 'must not be greater than retryMaxSeconds',
    path: ['retryBaseSeconds'],
  });
export type Trigger = z.infer<typeof Trigger>;
export type TriggerInput = z.input<typeof Trigger>;
export type TriggerType = Trigger['type'];
export type TriggerOf<Type extends TriggerType> = Extract<Trigger, { type: Type }>;
/** Those that take from a broker. */
export type BrokerTrigger = Exclude<Trigger, { type: 'cron' | 'webhook' }>;

/** Names of all secrets that a trigger or a destination needs: those it names, and those its texts refer to. */
export function secretsNeeded(of: Trigger | Destination): string[] {
  const names = new Set<string>();
  if ('url' in of) for (const name of secretReferences(of.url)) names.add(name);
  if ('sasl' in of && of.sasl !== null) {
    names.add(of.sasl.password);
    for (const name of secretReferences(of.sasl.username)) names.add(name);
  }
  if (of.type === 'webhook' && 'secret' in of && of.secret !== null) names.add(of.secret);
  if ('verify' in of && of.verify.scheme !== 'none') names.add(of.verify.secret);
  if ('deadLetter' in of && of.deadLetter !== null) for (const name of secretsNeeded(of.deadLetter)) names.add(name);
  return [...names];
}

/** How a trigger does. Counts are since it was started. */
export const TriggerStatus = z.object({
  /** `idle`: enabled, and no dispatcher runs it now. `failing`: the broker cannot be reached, or refuses; `detail` says why. */
  state: z.enum(['running', 'paused', 'connecting', 'failing', 'idle']),
  detail: z.string().nullable(),
  /** Messages that wait in the broker; null: it does not tell. */
  lag: z.number().int().nullable(),
  inFlight: z.number().int(),
  /** How many calls at a time it makes now, at most. */
  concurrency: z.number().int(),
  succeeded: z.number().int(),
  /** Attempts. */
  failed: z.number().int(),
  deadLettered: z.number().int(),
  filtered: z.number().int(),
  lastEventAt: z.number().nullable(),
  /** Of a schedule. */
  nextAt: z.number().nullable(),
});
export type TriggerStatus = z.infer<typeof TriggerStatus>;

/** Of a trigger that nobody runs. */
export const restingStatus = (state: TriggerStatus['state'], detail: string | null = null): TriggerStatus => ({
  state,
  detail,
  lag: null,
  inFlight: 0,
  concurrency: 0,
  succeeded: 0,
  failed: 0,
  deadLettered: 0,
  filtered: 0,
  lastEventAt: null,
  nextAt: null,
});

export const TriggerView = z.object({
  namespace: Namespace,
  function: FunctionName,
  trigger: Trigger,
  status: TriggerStatus,
  /** Of a webhook: where it is to be sent to. */
  url: z.string().nullable(),
});
export type TriggerView = z.infer<typeof TriggerView>;
export const TriggerList = z.object({ triggers: z.array(TriggerView) });
export type TriggerList = z.infer<typeof TriggerList>;
/** Body of PATCH …/triggers/:trigger */
export const PatchTriggerRequest = z.strictObject({ enabled: z.boolean() });
