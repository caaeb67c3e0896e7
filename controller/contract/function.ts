/**
 * What a function is: the configuration of a revision, with every default, unit and bound.
 */
import { z } from 'zod';
import { FunctionAccess } from './access.ts';
import { BundleDigest, FunctionName, Namespace, RevisionKey, RuntimeName, SecretName } from './names.ts';

/**
 * How a handler is written; detected by the runtime when it loads the code, in this order. `wsgi` and
 * `asgi` are Python's; `port` is a program that listens on $PORT, of which nothing else is known;
 * `events` is a module that has handlers for events (queue, scheduled, event) and none for HTTP.
 */
export const HandlerForm = z.enum(['fetch', 'methods', 'lambda', 'function', 'server', 'wsgi', 'asgi', 'port', 'events']);
export type HandlerForm = z.infer<typeof HandlerForm>;

/** Requests that one instance works on at a time, where the deployment does not say. Lambda's is 1. */
export const DEFAULT_CONCURRENCY: Record<HandlerForm, number> = {
  fetch: 50,
  methods: 50,
  lambda: 1,
  function: 50,
  server: 50,
  wsgi: 10,
  asgi: 50,
  port: 50,
  events: 50,
};

/**
 * Memory classes in MiB. V8's heap limit and the size of /tmp are fixed when a process boots, so a
 * generic instance is booted for a class, and its exact memory limit is set when it is specialised.
 */
export const MEMORY_CLASSES_MIB = [128, 256, 512, 1_024, 2_048, 4_096, 8_192] as const;

/** The smallest class that holds so much memory. Throws above the largest. */
export function memoryClass(memoryMib: number): number {
  for (const size of MEMORY_CLASSES_MIB) if (memoryMib <= size) return size;
  throw new RangeError(`no memory class holds ${memoryMib} MiB`);
}

/** V8's old-space limit for a class: near 85 % of it, the rest is for the process itself. */
export function heapLimitMib(classMib: number): number {
  return Math.floor(classMib * 0.85);
}

/** Size of /tmp for a class, MiB. It is memory, and counts as the function's. */
export function tmpSizeMib(classMib: number): number {
  return Math.max(32, Math.floor(classMib / 4));
}

/** Open files that an instance of a class may hold. */
export function openFiles(classMib: number): number {
  return classMib <= 256 ? 1_024 : 4_096;
}

const IPV4 = '(?:\\d{1,3}\\.){3}\\d{1,3}(?:\\/(?:3[0-2]|[12]?\\d))?';
const octetsFit = (cidr: string): boolean =>
  cidr
    .split('/')[0]!
    .split('.')
    .every((octet) => Number(octet) <= 255);
const OCTETS_WORDS = 'each part of an IPv4 address is at most 255';

/** IPv4 address or network. */
export const Cidr = z
  .string()
  .regex(new RegExp(`^${IPV4}$`), 'must be an IPv4 address or network, such as 10.1.2.0/24')
  .refine(octetsFit, { message: OCTETS_WORDS });

/** Host names in one list: each is asked for again and again while an instance runs. */
export const MAX_EGRESS_HOSTS = 16;

/**
 * Labels of letters, digits and hyphens (RFC 1123), two at least. The last begins with a letter, as all top-level domains do:
 * what ends in a number is an address by another spelling (`127.1`, `0x7f.1`, `1.2.3.0x4`).
 */
const HOST = '(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?';
const isHost = (entry: string): boolean => /[a-z]/.test(entry);

/** What is said of an entry of which nothing better is known. */
export const EGRESS_ENTRY_WORDS = 'must be a full host name such as api.example.com, or an IPv4 address or network such as 10.1.2.0/24';

/** An entry of a list: the full name of a host, in lower case and ASCII; or an IPv4 address or network. */
export const EgressEntry = z
  .string()
  .max(253, 'a host name has at most 253 characters')
  .regex(new RegExp(`^(?:${IPV4}|${HOST})$`), { error: ({ input }) => egressFault(String(input)) })
  .refine((entry) => isHost(entry) || octetsFit(entry), { message: OCTETS_WORDS })
  .refine((entry) => !entry.endsWith('.localhost'), { message: 'localhost is never to be dialled' });

function egressFault(text: string): string {
  if (text.includes('*')) return 'each host is listed by its own name: there is no *';
  if (/[/:]/.test(text) && /[a-z:]/i.test(text))
    return 'must be a host name or an IPv4 network, without scheme, port or path, and not IPv6';
  if (/[^\0-\x7f]/.test(text)) return 'a host name is written in ASCII: xn--… where it has other letters (IDNA)';
  if (/[A-Z]/.test(text)) return 'a host name is written in lower case';
  return EGRESS_ENTRY_WORDS;
}

/** The hosts and the networks of a list. */
export function egressParts(list: readonly string[]): { hosts: string[]; networks: string[] } {
  return { hosts: [...new Set(list.filter(isHost))], networks: list.filter((entry) => !isHost(entry)) };
}

/**
 * Where a function may dial out to. `internet`: any public address; never the host, link-local or
 * private ranges. A list: those hosts and networks only (networks may be private, never the host or link-local).
 */
export const Egress = z.union([
  z.enum(['none', 'internet']),
  z
    .array(EgressEntry)
    .min(1)
    .max(64)
    .refine((list) => egressParts(list).hosts.length <= MAX_EGRESS_HOSTS, {
      message: `a list has at most ${MAX_EGRESS_HOSTS} host names; a network counts as none`,
    }),
]);
export type Egress = z.infer<typeof Egress>;

/** Network class of an instance: fixed at its creation, so a part of the pool's key. */
export type NetworkClass = 'none' | 'egress';
export function networkClass(egress: Egress): NetworkClass {
  return egress === 'none' ? 'none' : 'egress';
}

/** Environment of a function. Names as POSIX has them; those beginning with FN_ are the platform's. */
export const EnvVars = z
  .record(
    z
      .string()
      .regex(/^[A-Za-z_][A-Za-z0-9_]{0,127}$/, 'a name is letters, digits and _, and does not begin with a digit')
      .refine((name) => !name.startsWith('FN_'), { message: 'names that begin with FN_ belong to the platform' }),
    z
      .string()
      .max(32_768)
      .refine((value) => !value.includes('\0'), { message: 'a value must not hold NUL' }),
  )
  .refine((env) => JSON.stringify(env).length <= 131_072, { message: 'the environment is over 128 KiB' });

/** The name of a RuntimeClass: RFC 1123 subdomain. */
export const Sandbox = z
  .string()
  .max(253)
  .regex(/^[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?$/, 'a sandbox is named by a–z, 0–9, - and .');

/**
 * How long an idle instance is kept before it is stopped, seconds; `auto`: as long as the function's own history says that it is
 * worth it, and one is there again shortly before it is likely to be used.
 */
export const KeepAliveSeconds = z.number().min(0).max(86_400);

/** Settings of a revision as a person gives them; what is left out takes the default. */
export const FunctionSettings = z.strictObject({
  runtime: RuntimeName.default('node'),
  /** Memory of an instance, MiB. Its cgroup's limit, swap included. Node by itself takes some 45. */
  memoryMib: z.number().int().min(64).max(8_192).default(128),
  /** CPU of an instance, cores (a quota, reached only in bursts). */
  cpu: z.number().min(0.05).max(64).default(1),
  /** Longest time from the first byte sent to the function to the last received, seconds. */
  timeoutSeconds: z.number().min(0.1).max(3_600).default(30),
  /** Requests at a time per instance. null: 1 for the Lambda form, 50 for the others. */
  concurrency: z.number().int().min(1).max(1_000).nullable().default(null),
  /** Instances that are always ready. */
  min: z.number().int().min(0).max(1_000).default(0),
  /** Most instances at a time. */
  max: z.number().int().min(1).max(1_000).default(100),
  keepAliveSeconds: z.union([KeepAliveSeconds, z.literal('auto')], { error: 'must be seconds from 0 to 86400, or auto' }).default('auto'),
  /** null: `internet` where this host can filter it, else `none`, and the deployment says which. */
  egress: Egress.nullable().default(null),
  /** What isolates its instances beyond the usual, by the operator's name for it: a RuntimeClass of Kubernetes. null: nothing. */
  sandbox: Sandbox.nullable().default(null),
  env: EnvVars.default({}),
  /** Secrets of the namespace that the function gets as variables of its environment. */
  secrets: z.array(SecretName).max(64).default([]),
  /**
   * Longest life of a WebSocket or of a stream of events (text/event-stream), seconds. `timeoutSeconds`
   * counts until such a stream begins; after it, this does. Then it is ended in an orderly way.
   */
  maxStreamSeconds: z.number().min(1).max(86_400).default(3_600),
});
export type FunctionSettings = z.infer<typeof FunctionSettings>;
export type FunctionSettingsInput = z.input<typeof FunctionSettings>;

/** What concerns two fields at once; kept apart so that the object above can be extended. */
export const CheckedFunctionSettings = FunctionSettings.refine((settings) => settings.min <= settings.max, {
  message: 'min must not be greater than max',
  path: ['min'],
})
  .refine((settings) => new Set(settings.secrets).size === settings.secrets.length, {
    message: 'a secret is named twice',
    path: ['secrets'],
  })
  .refine((settings) => settings.secrets.every((name) => !Object.hasOwn(settings.env, name)), {
    message: 'a name is both in env and in secrets',
    path: ['secrets'],
  });

/** What to load from a bundle: a path inside it, e.g. `index.mjs`. */
export const Entry = z
  .string()
  .max(255)
  .regex(/^[A-Za-z0-9_][A-Za-z0-9_.@-]*(?:\/[A-Za-z0-9_][A-Za-z0-9_.@-]*)*$/, 'a relative path of plain names, without ..');

/**
 * An OCI image of the runtime `image`: the id of its configuration, as the engine has it. What a person
 * names by tag is pinned to it when it is deployed.
 */
export const ImageId = z.string().regex(/^sha256:[0-9a-f]{64}$/, 'an image id is sha256: and 64 hex digits');
export type ImageId = z.infer<typeof ImageId>;

/** A revision as it is stored and as it runs: immutable, every default filled in. */
export const Revision = z.object({
  key: RevisionKey,
  namespace: Namespace,
  name: FunctionName,
  number: z.number().int().positive(),
  bundle: BundleDigest,
  entry: Entry,
  /** With the runtime `image` only. */
  image: ImageId.nullable().default(null),
  settings: FunctionSettings.extend({ concurrency: z.number().int().min(1).max(1_000), egress: Egress }),
  form: HandlerForm,
  /** What it is, as its deployment said. */
  message: z.string().max(200).optional(),
  /** Milliseconds since 1970. */
  createdAt: z.number().int(),
});
export type Revision = z.infer<typeof Revision>;

/**
 * Which revisions get which share of the requests: percent, whole numbers of 1 to 100 that sum up to
 * 100, no revision twice. The first is the *current* one: what `fn describe` shows.
 */
export const Traffic = z
  .array(z.object({ revision: z.number().int().positive(), percent: z.number().int().min(1).max(100) }))
  .min(1)
  .max(10)
  .refine((targets) => targets.reduce((sum, target) => sum + target.percent, 0) === 100, { message: 'the shares must sum up to 100' })
  .refine((targets) => new Set(targets.map((target) => target.revision)).size === targets.length, {
    message: 'a revision is named twice',
  });
export type Traffic = z.infer<typeof Traffic>;

/**
 * The object of Kubernetes (functions.fn.dev) that declares a function, and what of it was applied last. Changes that
 * come from elsewhere go through all the same; the status of the object tells of them.
 */
export const DeclaredBy = z.object({
  uid: z.string(),
  /** Namespace of the cluster. */
  namespace: z.string(),
  name: z.string(),
  /** `metadata.generation`, and the value of the annotation fn.dev/reapply. */
  generation: z.number().int(),
  reapply: z.string().nullable(),
  /** Number of the revision that it is. */
  revision: z.number().int().positive(),
});
export type DeclaredBy = z.infer<typeof DeclaredBy>;
/** The same before its revision has a number. */
export type Declaration = Omit<DeclaredBy, 'revision'>;

/** A function as `fn describe` shows it. */
export const FunctionView = z.object({
  namespace: Namespace,
  name: FunctionName,
  url: z.string(),
  /** URLs by its routes, beside `url`; a pattern stays a pattern. */
  urls: z.array(z.string()),
  /** The current revision: the first of `traffic`. */
  revision: Revision,
  traffic: Traffic,
  access: FunctionAccess,
  /** Absent: it is declared by nobody. */
  declaredBy: DeclaredBy.optional(),
  /** Changes with traffic and access: the ETag of the function (If-Match), a counter as text. */
  etag: z.string(),
  /** Numbers of those kept, the newest first. */
  revisions: z.array(z.number().int()),
  instances: z.number().int(),
});
export type FunctionView = z.infer<typeof FunctionView>;
