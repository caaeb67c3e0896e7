/**
 * `async` and `triggers` of fn.yaml. The contract's own field names work exactly; beside them there are times with units
 * (`maxAge: 6h`) and short forms (`{cron: …}`, `onFailure: other-function`). What comes out is the contract's.
 */
import { z } from 'zod';
import { AsyncSettings, Destination, MAX_EVENT_BYTES } from './events.ts';
import { BINARY_UNITS_BYTES, quantity, seconds } from './manifest-quantity.ts';
import { FunctionName, SecretName } from './names.ts';
import {
  CronTrigger,
  KafkaTrigger,
  MAX_TRIGGERS,
  MqttTrigger,
  NatsTrigger,
  RabbitmqTrigger,
  RedisListTrigger,
  RedisStreamTrigger,
  Trigger,
  TriggerName,
  type TriggerType,
  WebhookTrigger,
  WebhookVerification,
} from './trigger.ts';

/** For the JSON Schema: the forms of which one is chosen by what stands there. */
export const OPENED = new Map<unknown, z.ZodType>();

type Fields = Record<string, unknown>;
type Written = z.ZodType<Fields>;
const isFields = (value: unknown): value is Fields => typeof value === 'object' && value !== null && !Array.isArray(value);

type Telling = z.RefinementCtx<unknown>;

/** An issue of a schema that was asked apart, as one of this place. */
function retell({ issues }: Telling, issue: z.core.$ZodIssue, path: readonly PropertyKey[], input: unknown): void {
  issues.push({ ...issue, path: [...path], input } as z.core.$ZodRawIssue);
}

/**
 * One of several forms, chosen before anything is checked: so that what is wrong is told of the form that was meant, and
 * not of the one that is wrong in the fewest places.
 */
function oneOf<Output>(
  forms: readonly z.ZodType<Output>[],
  choose: (given: unknown) => z.ZodType<Output> | string,
  meta: z.core.GlobalMeta = {},
) {
  const chosen = z.unknown().transform((given, context): Output => {
    const form = choose(given);
    if (typeof form === 'string') {
      context.addIssue({ code: 'custom', message: form, input: given });
      return z.NEVER;
    }
    const parsed = form.safeParse(given);
    if (parsed.success) return parsed.data;
    for (const issue of parsed.error.issues) retell(context, issue, issue.path, given);
    return z.NEVER;
  });
  const schema = chosen.meta(meta);
  OPENED.set(schema, z.union(forms));
  return schema;
}

// Destinations.

const DESTINATION_WORDS = 'must be the name of a function, an http(s) URL, or {type: function | webhook | redis-stream | …}';
const FunctionText = FunctionName.transform((name): Destination => ({ type: 'function', name }));
const UrlText = Destination.options[1].shape.url.transform((url): Destination => ({ type: 'webhook', url, secret: null }));
const ManifestDestination = oneOf<Destination>(
  [FunctionText, UrlText, Destination],
  (given) => {
    if (typeof given === 'string') return given.includes(':') || given.includes('/') ? UrlText : FunctionText;
    return isFields(given) ? Destination : DESTINATION_WORDS;
  },
  {
    id: 'Destination',
    description: 'Where an event goes: the name of a function, a URL that gets it as a webhook, or a queue, stream or topic.',
  },
);
const DestinationList = z.array(ManifestDestination).max(4);
const OneDestination = ManifestDestination.transform((one) => [one]);
const ManifestDestinations = oneOf<Destination[]>([OneDestination, DestinationList], (given) =>
  Array.isArray(given) ? DestinationList : OneDestination,
);

// Names of fields that have a unit in the contract, and none here.

interface Alias {
  field: string;
  as: string;
  schema: z.ZodType<number>;
  /** Of the field, in one of what is written. */
  times: number;
  description: string;
}

const span = (min: number, max: number, range: string) => seconds(z.number().min(min).max(max), range);
const ALIASES: readonly Alias[] = [
  {
    field: 'maxAgeSeconds',
    as: 'maxAge',
    schema: span(1, 1_209_600, 'from 1s to 14d'),
    times: 1,
    description: 'After so long an event is tried no more: 6h. Default 6h.',
  },
  {
    field: 'batchWindowMs',
    as: 'batchWindow',
    schema: span(0, 300, 'from 0 to 5m'),
    times: 1_000,
    description: 'How long a batch that is not full waits for more: 500ms. Default 0.',
  },
  {
    field: 'maxPayloadBytes',
    as: 'maxPayload',
    schema: quantity({
      bounds: z.number().int().min(1).max(MAX_EVENT_BYTES),
      pattern: /^\d+(?:\.\d+)? ?(?:[KM](?:i?B?))?$/,
      units: BINARY_UNITS_BYTES,
      words: 'must be from 1 to 1Mi, such as 256Ki or 1000 (bytes)',
    }),
    times: 1,
    description: 'A longer event is dead-lettered as it is: 256Ki. Default 1Mi.',
  },
  {
    field: 'deadLetterSeconds',
    as: 'keepDeadLetters',
    schema: span(60, 31_536_000, 'from 60s to 365d'),
    times: 1,
    description: 'How long dead letters are kept: 30d. Default 14d.',
  },
  {
    field: 'resultSeconds',
    as: 'keepResults',
    schema: span(0, 2_592_000, 'from 0 to 30d'),
    times: 1,
    description: 'How long state and result can be read after the end: 1d. Default 1h.',
  },
];
const ManifestRetry = z
  .strictObject({
    base: span(0.01, 3_600, 'from 10ms to 1h').optional().describe('The first pause is up to so long. Default 1s.'),
    max: span(0.01, 86_400, 'from 10ms to 24h').optional().describe('No pause is longer. Default 5m.'),
  })
  .describe('Pauses between attempts: the first up to base, each further one up to twice as long, none over max.');

/** A field as the contract has it; what it is where nobody says anything is filled in at the end. */
const said = (schema: z.core.$ZodType): z.ZodType => {
  const inner = schema instanceof z.ZodDefault ? schema.unwrap() : schema;
  if (!(inner instanceof z.ZodType)) throw new TypeError('a schema of zod is expected');
  return schema instanceof z.ZodDefault ? inner.optional() : inner;
};

type Verification = z.infer<typeof WebhookVerification>;
const VerifyNone = z.literal('none').transform((scheme): Verification => ({ scheme }));
const ManifestVerify = oneOf<Verification>([VerifyNone, WebhookVerification], (given) =>
  typeof given === 'string' ? VerifyNone : WebhookVerification,
);

/** Fields that have a form of their own here, whichever trigger they are of. */
const OWN_FIELDS: Readonly<Record<string, z.ZodType>> = {
  name: TriggerName.optional().describe('Default: its type, with a number where there is one already.'),
  deadLetter: ManifestDestination.nullable().optional(),
  onSuccess: ManifestDestinations.optional().describe('Where the result of what succeeded goes.'),
  onFailure: ManifestDestinations.optional().describe('Where what failed for the last time goes, beside the dead letters.'),
  verify: ManifestVerify,
};

/** What may be written for an object of the contract. */
function written(contract: z.ZodObject, more: Record<string, z.ZodType> = {}): Written {
  const fields: Record<string, z.ZodType> = {};
  for (const [name, schema] of Object.entries(contract.shape)) {
    const alias = ALIASES.find(({ field }) => field === name);
    if (alias !== undefined) fields[alias.as] = alias.schema.optional().describe(alias.description);
    if (name === 'retryBaseSeconds') fields.retry = ManifestRetry.optional();
    fields[name] = name === 'type' ? contract.shape.type! : (OWN_FIELDS[name] ?? said(schema));
  }
  return z.strictObject({ ...fields, ...more });
}

/** What was written, under the contract's names. Tells what is said twice. */
function underContractNames(given: Fields, tell: (field: string, message: string) => void): Fields {
  const { retry, ...fields } = given;
  const move = (field: string, as: string, at: string, value: unknown) => {
    if (fields[field] !== undefined) tell(at, `${as} and ${field} say the same; keep one of them`);
    fields[field] = value;
  };
  for (const { field, as, times } of ALIASES) {
    const { [as]: value } = fields;
    Reflect.deleteProperty(fields, as);
    if (typeof value === 'number') move(field, as, as, value * times);
  }
  if (isFields(retry)) {
    if (retry.base !== undefined) move('retryBaseSeconds', 'retry.base', 'retry', retry.base);
    if (retry.max !== undefined) move('retryMaxSeconds', 'retry.max', 'retry', retry.max);
  }
  return fields;
}

/** The name that a field was written with. */
function writtenPath([first, ...rest]: readonly PropertyKey[], given: Fields): PropertyKey[] {
  if (first === undefined) return [];
  if (isFields(given.retry) && first === 'retryBaseSeconds') return ['retry', 'base'];
  if (isFields(given.retry) && first === 'retryMaxSeconds') return ['retry', 'max'];
  const alias = ALIASES.find(({ field, as }) => field === first && given[as] !== undefined);
  return [alias?.as ?? first, ...rest];
}

/** The one message that names another field. */
const inWrittenWords = (issue: z.core.$ZodIssue, given: Fields): z.core.$ZodIssue =>
  isFields(given.retry) ? { ...issue, message: issue.message.replace('retryMaxSeconds', 'retry.max') } : issue;

/** Where what is wrong is told, and of what. */
interface Place {
  context: Telling;
  given: Fields;
  /** Path of it from there. */
  above?: readonly PropertyKey[];
}

/** Reads by the contract what was written; tells what is wrong under the names that were written. */
function byContract<Output>(schema: z.ZodType<Output>, more: Fields, { context, given, above = [] }: Place): Output {
  const tell = (field: string, message: string) => context.addIssue({ code: 'custom', message, path: [...above, field], input: given });
  const parsed = schema.safeParse({ ...underContractNames(given, tell), ...more });
  if (parsed.success) return parsed.data;
  for (const issue of parsed.error.issues)
    retell(context, inWrittenWords(issue, given), [...above, ...writtenPath(issue.path, given)], given);
  return z.NEVER;
}

// How a function is called later.

const AsyncFields = written(z.strictObject(AsyncSettings.shape)).transform((given, context): AsyncSettings =>
  byContract(AsyncSettings, {}, { context, given }),
);
const AsyncSwitch = z.boolean().transform((enabled): AsyncSettings => AsyncSettings.parse({ enabled }));
export const ManifestAsync = oneOf<AsyncSettings>([AsyncSwitch, AsyncFields], (given) => {
  if (typeof given === 'boolean') return AsyncSwitch;
  return isFields(given) ? AsyncFields : 'must be true, false, or {maxAttempts, maxAge, retry, onFailure, …}';
});

// Triggers.

const TYPES: Readonly<Record<TriggerType, z.ZodObject>> = {
  'redis-stream': RedisStreamTrigger,
  'redis-list': RedisListTrigger,
  rabbitmq: RabbitmqTrigger,
  nats: NatsTrigger,
  mqtt: MqttTrigger,
  kafka: KafkaTrigger,
  cron: CronTrigger,
  webhook: WebhookTrigger,
};
const TYPE_NAMES = Object.keys(TYPES);
const LONG = new Map<string, Written>(Object.entries(TYPES).map(([type, contract]) => [type, written(contract)]));

/** `{cron: "*\/5 * * * *", …}` */
const CronShort = written(CronTrigger.omit({ type: true, schedule: true }), { cron: CronTrigger.shape.schedule }).transform(
  ({ cron, ...rest }): Fields => ({ type: 'cron', schedule: cron, ...rest }),
);
const SHORT_SCHEMES = ['standard', 'github', 'stripe', 'slack'] as const;
/** `{webhook: github, secret: GITHUB_SECRET, …}` */
const WebhookShort = written(WebhookTrigger.omit({ type: true, verify: true }), {
  webhook: z.enum(SHORT_SCHEMES),
  secret: SecretName,
}).transform(({ webhook, secret, ...rest }): Fields => ({ type: 'webhook', verify: { scheme: webhook, secret }, ...rest }));

const WrittenTrigger = oneOf<Fields>(
  [...LONG.values(), CronShort, WebhookShort],
  (given) => {
    if (!isFields(given)) return `must be {type: ${TYPE_NAMES.join(' | ')}, …} or {cron: …}`;
    const { type } = given;
    if (type === undefined && given.cron !== undefined) return CronShort;
    if (type === undefined && given.webhook !== undefined) return WebhookShort;
    if (type === undefined) return `has no type: ${TYPE_NAMES.join(', ')}`;
    return LONG.get(String(type)) ?? `its type ${JSON.stringify(type)} is none of: ${TYPE_NAMES.join(', ')}`;
  },
  { id: 'Trigger', description: 'One trigger: docs/triggers.md has the fields of each type.' },
);

type Undecided<T> = T extends Trigger ? Omit<T, 'enabled'> & { enabled?: boolean | undefined } : never;
/** A trigger of fn.yaml. `enabled` is there only where the file says it: a trigger that was paused stays so else. */
export type ManifestTrigger = Undecided<Trigger>;

/** `cron`, or `cron-2` where there is one of that name. */
function freeName(type: string, taken: ReadonlySet<string>): string {
  for (let number = 1; ; number += 1) {
    const name = number === 1 ? type : `${type}-${number}`;
    if (!taken.has(name)) return name;
  }
}

/** The triggers of a function; those without a name get their type's, with a number where it is taken. */
export const ManifestTriggers = z
  .array(WrittenTrigger)
  .max(MAX_TRIGGERS)
  .transform((list, context): ManifestTrigger[] => {
    // An unknown field lets zod go on, with nothing in the place of its trigger.
    if (context.issues.length > 0) return z.NEVER;
    const taken = new Set<string>();
    for (const [index, { name }] of list.entries()) {
      if (typeof name !== 'string') continue;
      if (taken.has(name))
        context.addIssue({ code: 'custom', message: 'a second trigger of this name', path: [index, 'name'], input: list });
      taken.add(name);
    }
    return list.map((given, index): ManifestTrigger => {
      const name = typeof given.name === 'string' ? given.name : freeName(String(given.type), taken);
      taken.add(name);
      const trigger = byContract(Trigger, { name }, { context, given, above: [index] });
      return given.enabled === undefined ? { ...trigger, enabled: undefined } : trigger;
    });
  });
