/**
 * Events: invocations that are answered later, what becomes of them, and where their outcome goes. What
 * brings events from elsewhere is in trigger.ts. Times are milliseconds since 1970.
 */
import { z } from 'zod';
import { FunctionName, Namespace, RevisionKey, SecretName } from './names.ts';

/** Longest body of an event, bytes: it is kept in the store until it is done. Above it 413. */
export const MAX_EVENT_BYTES = 1_048_576;
/** Of a function's answer to an event, so much is kept, bytes; the rest is cut, and the view says so. */
export const MAX_RESULT_BYTES = 262_144;
/** Longest Idempotency-Key and order key, characters. */
export const MAX_KEY_LENGTH = 256;
/** Longest delay of an invocation, seconds: as long as the greatest age. */
export const MAX_DELAY_SECONDS = 1_209_600;

/** `e-` and 24 characters of chance (124 bits): who knows it may ask what became of the invocation, if he may call the function. */
export const EventId = z.string().regex(/^e-[0-9a-z]{24}$/, 'an invocation id is e- and 24 characters');
export type EventId = z.infer<typeof EventId>;

/** What a client says of an invocation that is answered later, at the public border. All else of it is passed on. */
export const EVENT_HEADERS = {
  /** RFC 7240: `respond-async` asks for 202 and a Location. */
  prefer: 'prefer',
  preferenceApplied: 'preference-applied',
  /** draft-ietf-httpapi-idempotency-key-header */
  idempotencyKey: 'idempotency-key',
  /** Not before so long: seconds, or with a unit (90, 30s, 5m, 2h, 1d). */
  delay: 'fn-delay',
  /** Invocations of a function with the same key run one at a time, in the order in which they were accepted. */
  orderKey: 'fn-order-key',
} as const;

/** Where the gateway serves them: …/ID is the state, …/ID/result the function's own answer; DELETE …/ID cancels. */
export const INVOCATIONS_PATH = '/.fn/invocations/';
/** …/NAME/TRIGGER, or …/@NS/NAME/TRIGGER: where webhooks are sent to. */
export const WEBHOOKS_PATH = '/.fn/webhooks/';

/**
 * Text in which `${secret:NAME}` stands for a secret of the namespace: a URL with a password. It is
 * filled in when it is used, and never shown.
 */
export const SECRET_REFERENCE = /\$\{secret:([A-Za-z_][A-Za-z0-9_]{0,127})\}/g;

/** Names of the secrets that a text refers to. */
export const secretReferences = (text: string): string[] => [...text.matchAll(SECRET_REFERENCE)].map((match) => match[1]!);

const referring = (max: number) =>
  z
    .string()
    .min(1)
    .max(max)
    .refine((text) => !/\$\{(?!secret:[A-Za-z_][A-Za-z0-9_]{0,127}\})/.test(text), { message: '${secret:NAME} is what may stand here' });

/** A URL of one of these schemes, with references to secrets in it. Passwords do not stand in it themselves. */
export const urlOf = (schemes: readonly string[], example: string) =>
  referring(2_000)
    .refine(
      (text) => {
        const filled = text.replaceAll(SECRET_REFERENCE, 'x');
        return URL.canParse(filled) && schemes.includes(new URL(filled).protocol.slice(0, -1)) && new URL(filled).hostname !== '';
      },
      { message: `must be a URL such as ${example}` },
    )
    .refine(
      (text) => {
        const filled = text.replaceAll(SECRET_REFERENCE, '');
        return !URL.canParse(filled) || new URL(filled).password === '';
      },
      { message: 'holds a password: put it into a secret (fn secret set NAME) and write ${secret:NAME} in its place' },
    );

export const RedisUrl = urlOf(['redis', 'rediss'], 'redis://:${secret:REDIS_PASSWORD}@redis.example.com:6379/0');
export const AmqpUrl = urlOf(['amqp', 'amqps'], 'amqp://user:${secret:AMQP_PASSWORD}@rabbit.example.com/vhost');
export const NatsUrl = urlOf(['nats', 'tls'], 'nats://nats.example.com:4222');
export const MqttUrl = urlOf(['mqtt', 'mqtts'], 'mqtt://mqtt.example.com:1883');
export const WebhookUrl = urlOf(['http', 'https'], 'https://example.com/hook');

/** Name of a stream, list, queue, subject or topic of a broker. */
export const BrokerName = z
  .string()
  // Where there is nothing, nothing more is to be said of it.
  .min(1, { abort: true })
  .max(255)
  // oxlint-disable-next-line no-control-regex -- control characters are what is refused
  .regex(/^[^\u0000-\u001f\u007f]+$/, 'must not hold control characters');

/** How a Kafka cluster is reached. */
export const KafkaCluster = {
  /** HOST:PORT of some of its brokers. */
  brokers: z
    .array(
      z
        .string()
        .max(300)
        .regex(/^(?:\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+):\d{1,5}$/, 'must be HOST:PORT'),
    )
    .min(1)
    .max(32),
  tls: z.boolean().default(false),
  sasl: z
    .strictObject({
      mechanism: z.enum(['plain', 'scram-sha-256', 'scram-sha-512']),
      username: referring(500),
      /** The secret that has the password. */
      password: SecretName,
    })
    .nullable()
    .default(null),
};

/** Where an event, or the outcome of one, is sent to. */
export const Destination = z.discriminatedUnion('type', [
  /** Another function of the same namespace. */
  z.strictObject({ type: z.literal('function'), name: FunctionName }),
  /**
   * POST of the CloudEvent, signed as Standard Webhooks says (webhook-id, webhook-timestamp, webhook-signature)
   * with the secret, where there is one.
   */
  z.strictObject({ type: z.literal('webhook'), url: WebhookUrl, secret: SecretName.nullable().default(null) }),
  z.strictObject({
    type: z.literal('redis-stream'),
    url: RedisUrl,
    stream: BrokerName,
    /** Entries that the stream keeps, about. null: all. */
    maxLength: z.number().int().min(1).nullable().default(null),
  }),
  z.strictObject({ type: z.literal('redis-list'), url: RedisUrl, list: BrokerName }),
  z.strictObject({ type: z.literal('rabbitmq'), url: AmqpUrl, exchange: z.string().max(255).default(''), routingKey: z.string().max(255) }),
  z.strictObject({ type: z.literal('nats'), url: NatsUrl, subject: BrokerName }),
  z.strictObject({ type: z.literal('mqtt'), url: MqttUrl, topic: BrokerName, qos: z.number().int().min(0).max(2).default(1) }),
  z.strictObject({ type: z.literal('kafka'), topic: BrokerName, ...KafkaCluster }),
]);
export type Destination = z.infer<typeof Destination>;

/** How failed attempts are repeated; shared by invocations and triggers. */
export const RetrySettings = {
  /** The first pause is up to so long, seconds; each further one up to twice as long (full jitter: evenly from 0 to it). */
  retryBaseSeconds: z.number().min(0.01).max(3_600).default(1),
  /** No pause is longer, seconds. */
  retryMaxSeconds: z.number().min(0.01).max(86_400).default(300),
};

/** What a function's own invocations that are answered later are like. Theirs alone: triggers say it for themselves. */
export const AsyncSettings = z
  .strictObject({
    /** false: `Prefer: respond-async` is nothing to the platform, and passed on to the function. */
    enabled: z.boolean().default(true),
    /** How often it is tried in all. What the platform could not even deliver does not count. */
    maxAttempts: z.number().int().min(1).max(100).default(3),
    /** After so long since it was due it is tried no more, seconds. */
    maxAgeSeconds: z.number().min(1).max(1_209_600).default(21_600),
    ...RetrySettings,
    /** Most at a time. null: as many as its instances can take. */
    concurrency: z.number().int().min(1).max(10_000).nullable().default(null),
    /** Most that wait; beyond it 429. */
    maxQueued: z.number().int().min(1).max(10_000_000).default(100_000),
    /** How long state and result can be read after the end, seconds. */
    resultSeconds: z.number().min(0).max(2_592_000).default(3_600),
    /** How long a dead letter is kept, seconds. */
    deadLetterSeconds: z.number().min(60).max(31_536_000).default(1_209_600),
    onSuccess: z.array(Destination).max(4).default([]),
    onFailure: z.array(Destination).max(4).default([]),
  })
  .refine((settings) => settings.retryBaseSeconds <= settings.retryMaxSeconds, {
    message: 'must not be greater than retryMaxSeconds',
    path: ['retryBaseSeconds'],
  });
export type AsyncSettings = z.infer<typeof AsyncSettings>;

/**
 * `queued`: waits for its time or its turn. `running`. `retrying`: failed, and waits for the next attempt.
 * `succeeded`, `failed` (it is in the dead-letter queue, or was when it ended) and `cancelled` are ends.
 */
export const InvocationState = z.enum(['queued', 'running', 'retrying', 'succeeded', 'failed', 'cancelled']);
export type InvocationState = z.infer<typeof InvocationState>;

/** Why an attempt failed, in short. */
export const EventError = z.object({
  /** Code of the registry of errors, e.g. `function-error`. */
  code: z.string(),
  detail: z.string(),
  /** What the function answered with, where it did. */
  status: z.number().int().nullable(),
});
export type EventError = z.infer<typeof EventError>;

/** GET /.fn/invocations/ID, and of the control API. */
export const InvocationView = z.object({
  id: EventId,
  namespace: Namespace,
  function: FunctionName,
  state: InvocationState,
  /** Trigger that brought it; null: it was called. */
  trigger: z.string().nullable(),
  attempts: z.number().int().min(0),
  createdAt: z.number(),
  /** When it is tried next; null once it runs or is over. */
  dueAt: z.number().nullable(),
  /** When it is given up. */
  expiresAt: z.number(),
  finishedAt: z.number().nullable(),
  orderKey: z.string().nullable(),
  /** x-request-id of the newest attempt, for fn why and fn logs. */
  request: z.string().nullable(),
  revision: RevisionKey.nullable(),
  /** Of the newest failed attempt. */
  error: EventError.nullable(),
  /** The function's answer: read it at …/ID/result. */
  result: z.object({ status: z.number().int(), bytes: z.number().int(), truncated: z.boolean() }).nullable(),
  /** Until when this can be read; null while it is not over. */
  keptUntil: z.number().nullable(),
});
export type InvocationView = z.infer<typeof InvocationView>;
export const InvocationList = z.object({ invocations: z.array(InvocationView) });
export type InvocationList = z.infer<typeof InvocationList>;
export const InvocationQuery = z.strictObject({
  state: InvocationState.optional(),
  limit: z.coerce.number().int().min(1).max(1_000).optional(),
});
export type InvocationQuery = z.infer<typeof InvocationQuery>;

/** GET …/invocations/ID/result of the control API: the function's own answer. */
export const InvocationResult = z.object({
  status: z.number().int(),
  /** Names in lower case and values, one after the other. */
  headers: z.array(z.string()),
  /** Base64; cut at MAX_RESULT_BYTES, and the view says so. */
  body: z.string(),
});
export type InvocationResult = z.infer<typeof InvocationResult>;

/** GET …/backlog: events of a function in the event store, whatever brought them there. What waits in a broker is its trigger's `lag`. */
export const EventBacklog = z.object({
  waiting: z.number().int(),
  running: z.number().int(),
  dead: z.number().int(),
  /** Of the oldest that is due, milliseconds since 1970; null: none is. */
  oldestAt: z.number().nullable(),
});
export type EventBacklog = z.infer<typeof EventBacklog>;

/** An event that failed for the last time. */
export const DeadLetterView = z.object({
  id: EventId,
  namespace: Namespace,
  function: FunctionName,
  trigger: z.string().nullable(),
  /** Id of the message in its broker; null: it is the platform's own event. */
  message: z.string().nullable(),
  reason: z.enum(['attempts', 'age', 'refused', 'too-large', 'undeliverable', 'lost-workers']),
  error: EventError,
  attempts: z.number().int(),
  createdAt: z.number(),
  deadAt: z.number(),
  keptUntil: z.number(),
  /** `ce-type` and `ce-source` of the event, its type of content and length. */
  event: z.object({ type: z.string(), source: z.string(), contentType: z.string().nullable(), bytes: z.number().int() }),
  request: z.string().nullable(),
});
export type DeadLetterView = z.infer<typeof DeadLetterView>;
export const DeadLetterList = z.object({
  deadLetters: z.array(DeadLetterView),
  /** Of all that the query is about, not only those listed. */
  total: z.number().int(),
});
export type DeadLetterList = z.infer<typeof DeadLetterList>;
/** One of them whole: what was sent. */
export const DeadLetterDetail = DeadLetterView.extend({
  headers: z.array(z.tuple([z.string(), z.string()])),
  /** Base64. */
  body: z.string(),
});
export type DeadLetterDetail = z.infer<typeof DeadLetterDetail>;
export const DeadLetterQuery = z.strictObject({
  trigger: z.string().max(63).optional(),
  /** Older than this one: the next page. */
  before: EventId.optional(),
  limit: z.coerce.number().int().min(1).max(1_000).optional(),
});
export type DeadLetterQuery = z.infer<typeof DeadLetterQuery>;
/** Body of POST …/dead-letters/redrive and …/purge: some, or (with `all`) all of the function or of a trigger. */
export const DeadLetterSelection = z.union([
  z.strictObject({ ids: z.array(EventId).min(1).max(1_000) }),
  z.strictObject({ all: z.literal(true), trigger: z.string().max(63).optional() }),
]);
export type DeadLetterSelection = z.infer<typeof DeadLetterSelection>;
/** 200 of them. */
export const DeadLetterCount = z.object({ count: z.number().int() });
export type DeadLetterCount = z.infer<typeof DeadLetterCount>;
