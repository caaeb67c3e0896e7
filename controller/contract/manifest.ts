/**
 * fn.yaml: functions, what they have in common, and how environments differ. The schema reads what a
 * person writes (units, short forms) and gives what the contract works with. Everything may be left
 * out: what is merged from several places is complete only at the end. docs/fn.schema.json is made of it.
 */
import { z } from 'zod';
import { Auth, Cors, LogRetention, RateLimit, RouteSpec, Sticky } from './access.ts';
import { ManifestAsync, ManifestTriggers, OPENED } from './manifest-events.ts';
import { BINARY_UNITS_BYTES, BINARY_UNITS_MIB, quantity, seconds } from './manifest-quantity.ts';
import { type Egress, EGRESS_ENTRY_WORDS, EgressEntry, EnvVars, FunctionSettings, KeepAliveSeconds, Sandbox } from './function.ts';
import { FunctionName, LABEL_PATTERN, Namespace, RuntimeName, SecretName } from './names.ts';

/** Most functions and environments of one file, and most entries of a list. */
export const MANIFEST_LIMITS = { functions: 500, environments: 50, assets: 64 } as const;

const { memoryMib, cpu, timeoutSeconds, concurrency, min, max, maxStreamSeconds } = FunctionSettings.shape;
const retention = LogRetention.shape;

/** Memory → MiB. MB and GB are read as Lambda and Docker read them: 1024 × 1024 bytes. */
const Memory = quantity({
  bounds: memoryMib.unwrap(),
  pattern: /^\d+(?:\.\d+)? ?(?:[MG](?:i?B?))?$/,
  units: BINARY_UNITS_MIB,
  words: 'must be whole MiB from 64 to 8192, such as 256, 256Mi or 1Gi',
});

const Cores = quantity({
  bounds: cpu.unwrap(),
  pattern: /^\d+(?:\.\d+)?m?$/,
  units: { '': 1, m: 0.001 },
  words: 'must be cores from 0.05 to 64, such as 0.5, 2 or 500m',
});

const ByteCount = quantity({
  bounds: retention.maxBytes.unwrap(),
  pattern: /^\d+(?:\.\d+)? ?(?:[KMG](?:i?B?))?$/,
  units: BINARY_UNITS_BYTES,
  words: 'must be from 64Ki to 1Gi, such as 16Mi or 1000000 (bytes)',
});

const KEEP_ALIVE_WORDS = 'must be auto, or a time from 0 to 24h, such as 30 (seconds), 30s, 5m or 1h';
const KeepAlive = z.union([z.literal('auto'), seconds(KeepAliveSeconds, 'from 0 to 24h', KEEP_ALIVE_WORDS)], { error: KEEP_ALIVE_WORDS });

const whole = (bounds: z.ZodNumber, words: string) =>
  z
    .number(words)
    .int(words)
    .min(bounds.minValue ?? 0, words)
    .max(bounds.maxValue ?? Number.MAX_SAFE_INTEGER, words);

const EGRESS_WORDS = 'must be none, internet, or hosts and IPv4 networks such as api.example.com and 10.1.2.0/24';
const EgressText = z.string().superRefine((text, context) => {
  const found = EgressEntry.safeParse(text);
  if (found.success) return;
  const why = found.error.issues[0]!.message;
  context.addIssue({ code: 'custom', message: why === EGRESS_ENTRY_WORDS ? EGRESS_WORDS : `${EGRESS_WORDS}: ${why}` });
});
const ManifestEgress = z
  .union([z.enum(['none', 'internet']), EgressText, z.array(EgressText).min(1, EGRESS_WORDS).max(64)], { error: EGRESS_WORDS })
  .transform((given): Egress => (typeof given === 'string' && given !== 'none' && given !== 'internet' ? [given] : given));

const ENV_WORDS = 'must be text, a number, true or false';
/** Values are text for the function; numbers and booleans are taken as they were written. */
const ManifestEnv = z
  .record(EnvVars.keyType, z.union([z.string(), z.number(), z.boolean()], { error: ENV_WORDS }))
  .transform((env) => Object.fromEntries(Object.entries(env).map(([name, value]) => [name, String(value)])));

const ROUTE_WORDS = 'must be such as "/users/:id", "GET,POST /users", "api.example.com/*", or {host, path, methods, stripPrefix}';
const RouteText = z.string().regex(/^(?:[A-Za-z]+(?:,[A-Za-z]+)* +)?[^\s/]*\/\S*$/, ROUTE_WORDS);
/** The opposite of routeText. */
const ManifestRoute = z.union([RouteText, RouteSpec], { error: ROUTE_WORDS }).transform((given, context) => {
  if (typeof given !== 'string') return given;
  const [, methods, host = '', path = ''] = /^(?:(\S+) +)?([^\s/]*)(\/\S*)$/.exec(given) ?? [];
  const route = RouteSpec.safeParse({
    path,
    ...(host === '' ? {} : { host }),
    ...(methods === undefined ? {} : { methods: methods.toUpperCase().split(',') }),
  });
  if (route.success) return route.data;
  for (const {
    path: [part],
    message,
  } of route.error.issues)
    context.addIssue({ code: 'custom', message: `${part === 'methods' ? 'method' : String(part)}: ${message}`, input: given });
  return z.NEVER;
});

const [, , jwtAuth] = Auth.options;
const { type: _type, ...jwtShape } = jwtAuth.shape;
const AUTH_WORDS = 'must be public, token, or jwt: {issuer, audience}';
const ManifestAuth = z
  .union(
    [
      z.enum(['public', 'token']),
      z.strictObject({ jwt: z.strictObject(jwtShape).describe('Issuer, audience and keys of the tokens (JWT) that are let in.') }),
      Auth,
    ],
    { error: AUTH_WORDS },
  )
  .transform((given): Auth => {
    if (typeof given === 'string') return { type: given };
    return 'jwt' in given ? { type: 'jwt', ...given.jwt } : given;
  });

const { origins, methods, headers, exposeHeaders, credentials } = Cors.shape;
const CORS_WORDS = 'must be "*", a list of origins, {origins, methods, headers, exposeHeaders, credentials, maxAge}, or null';
const ManifestCors = z
  .union(
    [
      z.literal('*'),
      origins,
      z.strictObject({
        origins,
        methods: methods.describe('Methods that are allowed.'),
        headers: headers.describe('Request headers that are allowed; * allows those that are asked for.'),
        exposeHeaders: exposeHeaders.describe('Response headers that a script may read.'),
        credentials: credentials.describe('Whether cookies and the like may be sent; not with the origin *.'),
        maxAge: seconds(z.number().int().min(0).max(86_400), 'from 0 to 24h')
          .optional()
          .describe('How long a browser remembers the answer to a preflight.'),
      }),
    ],
    { error: CORS_WORDS },
  )
  .transform((given, context): Cors => {
    const { maxAge, ...rest } = given === '*' ? { origins: ['*'] } : Array.isArray(given) ? { origins: given } : given;
    const cors = Cors.safeParse({ ...rest, ...(maxAge === undefined ? {} : { maxAgeSeconds: maxAge }) });
    if (cors.success) return cors.data;
    for (const { message, path } of cors.error.issues) context.addIssue({ code: 'custom', message, path: [...path], input: given });
    return z.NEVER;
  });

const RATE_WORDS = 'must be requests per second from 0.01 to 1000000, text such as 600/m, {requestsPerSecond, burst, by}, or null';
const RATE_UNITS_SECONDS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3_600 };
const ManifestRateLimit = z
  .union([z.number(), z.string().regex(/^\d+(?:\.\d+)?\/[smh]$/, RATE_WORDS), RateLimit], { error: RATE_WORDS })
  .transform((given, context): RateLimit => {
    if (typeof given === 'object') return given;
    const [count = '', unit = 's'] = String(given).split('/');
    const limit = RateLimit.safeParse({ requestsPerSecond: Number(count) / (RATE_UNITS_SECONDS[unit] ?? 1) });
    if (limit.success) return limit.data;
    context.addIssue({ code: 'custom', message: RATE_WORDS, input: given });
    return z.NEVER;
  });

const STICKY_WORDS = 'must be cookie, header:NAME, {by: cookie, name, maxAgeSeconds}, {by: header, name}, or null';
const ManifestSticky = z
  .union([z.string().regex(/^(?:cookie|header:[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100})$/, STICKY_WORDS), Sticky], { error: STICKY_WORDS })
  .transform((given): Sticky => {
    if (typeof given !== 'string') return given;
    return given === 'cookie' ? Sticky.parse({ by: 'cookie' }) : { by: 'header', name: given.slice('header:'.length).toLowerCase() };
  });

const ManifestLogs = z
  .strictObject({
    maxBytes: ByteCount.optional().describe('How much of its log is kept. Default 16Mi.'),
    maxAge: seconds(retention.maxAgeSeconds.unwrap(), 'from 60s to 365d').optional().describe('How long its log is kept. Default 7d.'),
  })
  .transform(({ maxBytes, maxAge }) => LogRetention.parse({ maxBytes, maxAgeSeconds: maxAge }));

/** What functions have in common: all that one may have but what only one can have. */
const COMMON = {
  runtime: RuntimeName.optional().meta({
    description: 'The language: node, python, bun, deno, binary or image. Default node.',
    examples: ['node', 'python', 'bun', 'deno', 'binary', 'image'],
  }),
  memory: Memory.optional().meta({
    description: 'Memory of an instance: MiB, or with a unit (256Mi, 1Gi). From 64 to 8192 MiB; default 128.',
    examples: [128, '256Mi', '1Gi'],
  }),
  cpu: Cores.optional().meta({
    description: 'CPU of an instance, cores: 0.5, or 500m. From 0.05 to 64; default 1.',
    examples: [1, '500m'],
  }),
  timeout: seconds(timeoutSeconds.unwrap(), 'from 0.1s to 1h')
    .optional()
    .meta({ description: 'Longest time of a request: seconds, or with a unit (30s, 5m). Default 30s.', examples: ['30s', '5m'] }),
  concurrency: whole(concurrency.unwrap().unwrap(), 'must be a whole number from 1 to 1000, or null')
    .nullable()
    .optional()
    .meta({
      description: 'Requests at a time for one instance. Default 1 for the Lambda form, 10 for WSGI, 50 for all others (null).',
      examples: [1, 50],
    }),
  min: whole(min.unwrap(), 'must be a whole number from 0 to 1000')
    .optional()
    .meta({ description: 'Instances that are always ready. Default 0: it scales to zero.', examples: [0, 1] }),
  max: whole(max.unwrap(), 'must be a whole number from 1 to 1000')
    .optional()
    .meta({ description: 'Most instances at a time. Default 100.', examples: [10, 100] }),
  keepAlive: KeepAlive.optional().meta({
    description: 'How long an idle instance is kept: a time, or auto, by when the function was used before. Default auto.',
    examples: ['auto', '5m'],
  }),
  maxStream: seconds(maxStreamSeconds.unwrap(), 'from 1s to 24h')
    .optional()
    .meta({ description: 'Longest life of a WebSocket or a stream of server-sent events. Default 1h.', examples: ['1h'] }),
  egress: ManifestEgress.nullable()
    .optional()
    .meta({
      description:
        'Where the function may dial out to: none, internet (public addresses only), or a list of hosts and IPv4 networks. Default internet, where the host can filter it (null).',
      examples: ['none', 'internet', ['10.1.2.0/24']],
    }),
  sandbox: Sandbox.nullable()
    .optional()
    .meta({
      description:
        'What isolates its instances beyond the usual, by the operator’s name for it: a RuntimeClass of Kubernetes. Default none (null).',
      examples: ['gvisor'],
    }),
  env: ManifestEnv.optional().meta({
    description:
      'Variables of the environment. Merged by name with those of more general places. ${env:NAME} is the variable NAME of who runs fn; $${ is a plain ${.',
    examples: [{ STAGE: 'prod' }],
  }),
  secrets: z
    .array(SecretName)
    .max(64)
    .optional()
    .meta({
      description: 'Secrets of the namespace (fn secret set) that the function gets as variables of its environment.',
      examples: [['DATABASE_URL']],
    }),
  assets: z
    .array(z.string().min(1).max(1_024))
    .max(MANIFEST_LIMITS.assets)
    .optional()
    .meta({ description: 'Files that go along with the code: globs relative to the folder of the entry.', examples: [['templates/**']] }),
  cors: ManifestCors.nullable()
    .optional()
    .meta({
      description: 'Cross-origin requests, answered by the gateway: "*", a list of origins, or all of it. null: none.',
      examples: ['*', ['https://app.example.com']],
    }),
  auth: ManifestAuth.optional().meta({
    description: 'Who may call it: public (default), token (a token of this platform with the scope invoke), or jwt: {issuer, audience}.',
    examples: ['public', 'token', { jwt: { issuer: 'https://id.example.com', audience: 'api' } }],
  }),
  rateLimit: ManifestRateLimit.nullable()
    .optional()
    .meta({
      description:
        'Requests per second, text such as 600/m, or {requestsPerSecond, burst, by: function | ip | caller}. Over it: 429. null: no limit.',
      examples: [100, '600/m'],
    }),
  sticky: ManifestSticky.nullable()
    .optional()
    .meta({
      description: 'What keeps a client on one revision while traffic is split: cookie, or header:NAME. null: chance.',
      examples: ['cookie', 'header:x-user'],
    }),
  async: ManifestAsync.optional().meta({
    description:
      'How it is called later (Prefer: respond-async, fn invoke --async): false, or {maxAttempts, maxAge, retry, concurrency, maxQueued, keepResults, keepDeadLetters, onSuccess, onFailure}.',
    examples: [{ maxAttempts: 5, maxAge: '1h', onFailure: 'report-failures' }],
  }),
  logs: ManifestLogs.optional().meta({
    description: 'How much of its log is kept, and how long.',
    examples: [{ maxBytes: '64Mi', maxAge: '30d' }],
  }),
};

/** What may stand under `defaults`. */
export const ManifestDefaults = z
  .strictObject(COMMON)
  .meta({ id: 'Defaults', description: 'What functions have in common; each may say otherwise.' });

/** A function, or what a more special place changes of one. */
export const ManifestFunction = z
  .strictObject({
    entry: z
      .string()
      .min(1)
      .max(1_024)
      .optional()
      .meta({ description: 'Source file, or folder of the function, relative to this file.', examples: ['./src/handler.ts', './api'] }),
    image: z
      .string()
      .min(1)
      .max(1_024)
      .optional()
      .meta({
        description:
          'With runtime: image. A reference (ghcr.io/me/app:1), a tar of docker save, or a folder with a Dockerfile. In place of entry.',
        examples: ['./Dockerfile', 'nginx:1.29'],
      }),
    routes: z
      .array(ManifestRoute)
      .max(64)
      .optional()
      .meta({
        description: 'Requests that it gets beside /NAME: "GET /users/:id", "api.example.com/*", or {host, path, methods, stripPrefix}.',
        examples: [['GET /users/:id', 'api.example.com/*']],
      }),
    triggers: ManifestTriggers.optional().meta({
      description:
        'What calls it beside HTTP: schedules, queues, streams and topics of brokers, webhooks. A short form: {cron: "*/5 * * * *", timezone: Europe/Berlin}.',
      examples: [[{ cron: '*/5 * * * *' }, { type: 'redis-stream', url: 'redis://redis.example.com', stream: 'orders', batchSize: 10 }]],
    }),
    ...COMMON,
  })
  .meta({ id: 'Function', description: 'One function.' });
/** One place's word about a function: what it says, in the contract's units. */
export type ManifestFunction = z.infer<typeof ManifestFunction>;

const EnvironmentName = z
  .string()
  .regex(LABEL_PATTERN, 'a name of an environment is 1–63 characters of a–z, 0–9 and -, and does not begin or end with -');

const ManifestEnvironment = z
  .strictObject({
    namespace: Namespace.optional().describe('Namespace of the functions in this environment.'),
    defaults: ManifestDefaults.optional(),
    env: ManifestEnv.optional().describe('Short for defaults.env.'),
    functions: z.record(FunctionName, ManifestFunction).optional().describe('What this environment changes of a function, by its name.'),
  })
  .meta({ id: 'Environment', description: 'What is different in this environment.' });

export const Manifest = z
  .strictObject({
    name: z.string().min(1).max(100).optional().describe('What all of this is called, for people.'),
    namespace: Namespace.optional().describe('Namespace of the functions. Default: default.'),
    defaults: ManifestDefaults.optional(),
    functions: z
      .record(FunctionName, ManifestFunction)
      .describe('The functions, by name: a–z, 0–9 and -, at most 63 characters. Each is served at /NAME.'),
    environments: z.record(EnvironmentName, ManifestEnvironment).optional().describe('Environments, by name: fn deploy --env NAME.'),
  })
  .refine(({ functions }) => Object.keys(functions).length > 0, {
    message: 'names no function: functions: {hello: {entry: ./hello.ts}}',
    path: ['functions'],
  })
  .refine(({ functions }) => Object.keys(functions).length <= MANIFEST_LIMITS.functions, {
    message: `more than ${MANIFEST_LIMITS.functions} functions`,
    path: ['functions'],
  })
  .refine(({ environments = {} }) => Object.keys(environments).length <= MANIFEST_LIMITS.environments, {
    message: `more than ${MANIFEST_LIMITS.environments} environments`,
    path: ['environments'],
  })
  .meta({ title: 'fn.yaml', description: 'Functions of fn: what they are, what they have in common, and how environments differ.' });
/** A manifest as read: units and short forms are the contract's by now. */
export type Manifest = z.infer<typeof Manifest>;
export type ManifestInput = z.input<typeof Manifest>;

/** JSON Schema of what a person may write, for editors (draft 7, which they know best). */
export function manifestJsonSchema(): Record<string, unknown> {
  const definitions: Record<string, unknown> = {};
  const schema = writtenSchema(Manifest, definitions);
  return { ...schema, definitions };
}

/** JSON Schema (draft 7) of what may be written. `definitions`: what has a name is put there. */
export function writtenSchema(zod: z.ZodType, definitions: Record<string, unknown>): Record<string, unknown> {
  const { definitions: named, ...schema } = z.toJSONSchema(zod, {
    io: 'input',
    target: 'draft-7',
    override: ({ zodSchema, jsonSchema }) => {
      const forms = OPENED.get(zodSchema);
      if (forms !== undefined) {
        const { $schema: _schema, ...opened } = writtenSchema(forms, definitions);
        Object.assign(jsonSchema, opened);
      }
      // zod leaves out examples of what is transformed, since they may be of its output; ours are of what is written.
      const examples = z.globalRegistry.get(zodSchema)?.examples;
      if (Array.isArray(examples)) jsonSchema.examples = examples;
    },
  });
  Object.assign(definitions, named);
  return schema;
}
