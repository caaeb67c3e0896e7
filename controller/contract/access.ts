/**
 * How the world reaches a function: its routes, who may call it, how often. Unlike the settings of a
 * revision these belong to the function: a rollback does not change who may call it.
 */
import { z } from 'zod';
import { AsyncSettings } from './events.ts';
import { MAX_TRIGGERS, Trigger } from './trigger.ts';

/** HTTP methods that a route or CORS may name. */
export const HttpMethod = z.enum(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']);
export type HttpMethod = z.infer<typeof HttpMethod>;

/**
 * A host: `api.example.com`, or `*.example.com` for one label in place of the `*`. Lower case, without
 * a port.
 */
export const HostPattern = z
  .string()
  .max(253)
  .regex(
    /^(?:\*\.)?(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/,
    'must be a host name in lower case, such as api.example.com or *.example.com',
  );
export type HostPattern = z.infer<typeof HostPattern>;

/**
 * A path: segments that stand for themselves, `:name` for any one segment, and a last `*` for all that
 * follows (nothing, too). `/users/:id`, `/static/*`, `/`. Compared byte by byte with the path as it came.
 */
export const PathPattern = z
  .string()
  .max(1_024)
  .regex(
    /^\/(?:(?:[A-Za-z0-9._~!$&'()+,;=@%-]+|:[A-Za-z_][A-Za-z0-9_]*)(?:\/(?:[A-Za-z0-9._~!$&'()+,;=@%-]+|:[A-Za-z_][A-Za-z0-9_]*))*(?:\/\*?)?|\*)?$/,
    'must be a path such as /users/:id or /static/*',
  )
  .refine((path) => !/(?:^|\/)\.{1,2}(?:\/|$)/.test(path), { message: 'must not hold . or .. as a segment' })
  .refine((path) => path !== '/.fn' && !path.startsWith('/.fn/'), { message: '/.fn/ belongs to the platform' });
export type PathPattern = z.infer<typeof PathPattern>;

/**
 * Requests that the function gets beside those to `/NAME`. Between routes that match, the one with a
 * host wins over one without, an exact host over `*.`, then segment by segment from the left a literal
 * over `:name` over `*`, then one with methods over one without. Two that tie are a clash, and the
 * second is refused.
 */
export const RouteSpec = z.strictObject({
  /** Without: any host that no other route of that path claims. */
  host: HostPattern.optional(),
  path: PathPattern.default('/*'),
  /** Without: all of them. GET brings HEAD along. */
  methods: z.array(HttpMethod).min(1).optional(),
  /** What is taken off the path's beginning before the function sees it: `/api` makes `/api/users` `/users`. */
  stripPrefix: z
    .string()
    .regex(/^(?:\/[A-Za-z0-9._~!$&'()+,;=@%-]+)+$/, 'must be whole segments, such as /api')
    .optional(),
});
export type RouteSpec = z.infer<typeof RouteSpec>;

/** `GET,POST api.example.com/users/:id`, for people. */
export function routeText({ host, path, methods }: RouteSpec): string {
  return `${methods ? `${methods.join(',')} ` : ''}${host ?? ''}${path}`;
}

/** Cross-origin requests (Fetch standard): preflights are answered by the gateway, answers get the headers. */
export const Cors = z
  .strictObject({
    /** `*`, exact origins, or `https://*.example.com`. */
    origins: z
      .array(
        z
          .string()
          .max(300)
          .regex(/^(?:\*|https?:\/\/(?:\*\.)?[a-z0-9.-]+(?::\d{1,5})?)$/, 'must be * or an origin such as https://app.example.com'),
      )
      .min(1)
      .max(64),
    methods: z.array(HttpMethod).min(1).default(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE']),
    /** Request headers that are allowed; `*` allows those that were asked for. */
    headers: z
      .array(
        z
          .string()
          .max(100)
          .regex(/^(?:\*|[!#$%&'*+.^_`|~0-9A-Za-z-]+)$/),
      )
      .max(64)
      .default(['*']),
    exposeHeaders: z
      .array(
        z
          .string()
          .max(100)
          .regex(/^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/),
      )
      .max(64)
      .default([]),
    credentials: z.boolean().default(false),
    maxAgeSeconds: z.number().int().min(0).max(86_400).default(600),
  })
  .refine((cors) => !(cors.credentials && cors.origins.includes('*')), {
    message: 'credentials cannot go with the origin *',
    path: ['credentials'],
  });
export type Cors = z.infer<typeof Cors>;

/** Members of a JSON Web Key that are secret (RFC 7518, 6). */
const PRIVATE_MEMBERS = ['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k'];
/** The curves that tokens are signed with, and the characters of a coordinate (base64url). */
const CURVES: Readonly<Record<'EC' | 'OKP', Readonly<Record<string, number>>>> = {
  EC: { 'P-256': 43, 'P-384': 64, 'P-521': 88 },
  OKP: { Ed25519: 43 },
};
/** Of 2048 bits, characters: shorter ones are not taken to check signatures with (RFC 7518, 3.3). */
const MIN_RSA_LENGTH = 342;

/** What is wrong with a key, and in which member; null: signatures can be checked with it, and it tells no secret. */
function keyFault(key: Readonly<Record<string, unknown>>): { member: string; message: string } | null {
  const base64 = (member: string): string => {
    const value = Object.hasOwn(key, member) ? key[member] : undefined;
    return typeof value === 'string' && /^[A-Za-z0-9_-]+$/.test(value) ? value : '';
  };
  const secret = PRIVATE_MEMBERS.find((member) => Object.hasOwn(key, member));
  if (key.kty === 'oct' || secret !== undefined)
    return { member: secret ?? 'kty', message: 'is secret: give the public key only, without d, p, q, dp, dq, qi, oth and k' };
  const { kty } = key;
  if (kty === 'RSA') {
    if (base64('n').length < MIN_RSA_LENGTH) return { member: 'n', message: 'must be the modulus in base64url, of 2048 bits or more' };
    return base64('e') === '' ? { member: 'e', message: 'must be the exponent in base64url' } : null;
  }
  if (kty !== 'EC' && kty !== 'OKP') return { member: 'kty', message: 'must be RSA, EC or OKP' };
  const lengths = CURVES[kty];
  const length = typeof key.crv === 'string' && Object.hasOwn(lengths, key.crv) ? lengths[key.crv] : undefined;
  if (length === undefined) return { member: 'crv', message: `of a key of the type ${kty} must be ${Object.keys(lengths).join(', ')}` };
  const wrong = (kty === 'EC' ? ['x', 'y'] : ['x']).find((member) => base64(member).length !== length);
  return wrong === undefined ? null : { member: wrong, message: `must be ${length} characters of base64url` };
}

/** A JSON Web Key Set with public keys only (RFC 7517). */
const Jwks = z.object({
  keys: z
    .array(
      z.record(z.string(), z.unknown()).superRefine((key, context) => {
        const fault = keyFault(key);
        if (fault !== null) context.addIssue({ code: 'custom', path: [fault.member], message: fault.message });
      }),
    )
    .min(1)
    .max(100),
});

/** Who may call the function. */
export const Auth = z.discriminatedUnion('type', [
  /** Anybody. */
  z.strictObject({ type: z.literal('public') }),
  /** Who has a token of this platform with the scope `invoke` for the namespace: Authorization: Bearer. It is not passed on. */
  z.strictObject({ type: z.literal('token') }),
  /** Who has a JWT (RFC 7519) by this issuer for this audience, signed by a key of the set. It is passed on. */
  z.strictObject({
    type: z.literal('jwt'),
    issuer: z.string().min(1).max(1_000),
    audience: z.union([z.string().min(1).max(1_000), z.array(z.string().min(1).max(1_000)).min(1).max(16)], {
      error: 'must be who the token is for: text, or a list of up to 16',
    }),
    /** Where the keys are; else `jwks`. Without both: ISSUER/.well-known/jwks.json. */
    jwksUrl: z
      .url({ protocol: /^https?$/ })
      .max(2_000)
      .optional(),
    jwks: Jwks.optional(),
    /** Claims that must be there with exactly this value, or hold it where they are lists. */
    claims: z.record(z.string().max(200), z.union([z.string(), z.number(), z.boolean()])).default({}),
  }),
]);
export type Auth = z.infer<typeof Auth>;

/** A token bucket: `requestsPerSecond` on average, `burst` at once. Over it 429 with Retry-After. */
export const RateLimit = z.strictObject({
  requestsPerSecond: z.number().min(0.01).max(1_000_000),
  /** Default: what a second brings, at least 1. */
  burst: z.number().int().min(1).max(1_000_000).optional(),
  /** One bucket for all, one for each address of a client, or one for each caller (token or JWT subject; else the address). */
  by: z.enum(['function', 'ip', 'caller']).default('function'),
});
export type RateLimit = z.infer<typeof RateLimit>;

/** Where traffic is split: what keeps a client on one revision. */
export const Sticky = z.discriminatedUnion('by', [
  /** The same value of the header leads to the same revision; without it, by chance. */
  z.strictObject({
    by: z.literal('header'),
    name: z
      .string()
      .max(100)
      .regex(/^[!#$%&'*+.^_`|~0-9a-z-]+$/, 'must be a header name in lower case'),
  }),
  /** A cookie that the gateway sets. */
  z.strictObject({
    by: z.literal('cookie'),
    name: z
      .string()
      .max(100)
      .regex(/^[A-Za-z0-9_-]+$/)
      .default('fn-revision'),
    maxAgeSeconds: z.number().int().min(1).max(31_536_000).default(86_400),
  }),
]);
export type Sticky = z.infer<typeof Sticky>;

/** How much of a function's logs is kept. The oldest goes first. */
export const LogRetention = z.strictObject({
  maxBytes: z.number().int().min(65_536).max(1_073_741_824).default(16_777_216),
  maxAgeSeconds: z.number().int().min(60).max(31_536_000).default(604_800),
});
export type LogRetention = z.infer<typeof LogRetention>;

export const FunctionAccess = z.strictObject({
  routes: z.array(RouteSpec).max(64).default([]),
  cors: Cors.nullable().default(null),
  auth: Auth.default({ type: 'public' }),
  rateLimit: RateLimit.nullable().default(null),
  sticky: Sticky.nullable().default(null),
  logs: LogRetention.prefault({}),
  async: AsyncSettings.prefault({}),
  triggers: z
    .array(Trigger)
    .max(MAX_TRIGGERS)
    .refine((triggers) => new Set(triggers.map((trigger) => trigger.name)).size === triggers.length, {
      message: 'two triggers have the same name',
    })
    .default([]),
});
export type FunctionAccess = z.infer<typeof FunctionAccess>;
export type FunctionAccessInput = z.input<typeof FunctionAccess>;

/** What a function has that nobody said anything about. */
export const DEFAULT_ACCESS: FunctionAccess = FunctionAccess.parse({});
