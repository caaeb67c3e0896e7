/** Tenants: namespaces, tokens, quotas, secrets, the audit log. */
import { z } from 'zod';
import { HostPattern } from './access.ts';
import { Cidr } from './function.ts';
import { Namespace, SecretName, TokenId } from './names.ts';

/**
 * What a token lets its bearer do, in its namespaces. `read`: look at everything but values of secrets.
 * `invoke`: call functions that ask for a token. `deploy`: change functions, secrets, traffic; brings
 * `read` along. `admin`: all of it, and tokens of these namespaces; for all namespaces (`*`) also what
 * concerns the platform: namespaces, quotas, status, shutdown.
 */
export const Scope = z.enum(['read', 'invoke', 'deploy', 'admin']);
export type Scope = z.infer<typeof Scope>;

/** `*`, or names. */
export const TokenNamespaces = z.union([z.literal('*'), z.array(Namespace).min(1).max(100)]);
export type TokenNamespaces = z.infer<typeof TokenNamespaces>;

/** Who asks. The owner of the control socket, and the bearer of the home's own token file, are `*` admins. */
export const Principal = z.object({
  /** `owner`, or the id of a token. */
  id: z.string(),
  name: z.string(),
  scopes: z.array(Scope),
  namespaces: TokenNamespaces,
});
export type Principal = z.infer<typeof Principal>;

const IMPLIED: Record<Scope, readonly Scope[]> = {
  read: ['read', 'deploy', 'admin'],
  invoke: ['invoke', 'admin'],
  deploy: ['deploy', 'admin'],
  admin: ['admin'],
};

/** Whether somebody with these scopes may do what `scope` allows. */
export const allows = (scopes: readonly Scope[], scope: Scope): boolean => IMPLIED[scope].some((one) => scopes.includes(one));

/** Whether these namespaces hold that one; null asks for the platform as a whole. */
export const covers = (namespaces: TokenNamespaces, namespace: string | null): boolean =>
  namespaces === '*' || (namespace !== null && namespaces.includes(namespace));

/** Body of POST /v1/tokens */
export const CreateTokenRequest = z.strictObject({
  name: z.string().min(1).max(100),
  scopes: z.array(Scope).min(1).max(4),
  namespaces: TokenNamespaces,
  /** Milliseconds since 1970; null: it lasts until it is revoked. */
  expiresAt: z.number().int().positive().nullable().default(null),
});
export type CreateTokenRequest = z.infer<typeof CreateTokenRequest>;
export type CreateTokenRequestInput = z.input<typeof CreateTokenRequest>;

export const TokenView = z.object({
  id: TokenId,
  name: z.string(),
  scopes: z.array(Scope),
  namespaces: TokenNamespaces,
  /** Milliseconds since 1970, as all times here. */
  createdAt: z.number().int(),
  expiresAt: z.number().int().nullable(),
  revokedAt: z.number().int().nullable(),
});
export type TokenView = z.infer<typeof TokenView>;

/** 201 of POST /v1/tokens: the one time that the token itself is shown. */
export const CreateTokenResponse = TokenView.extend({ token: z.string() });
export type CreateTokenResponse = z.infer<typeof CreateTokenResponse>;

export const TokenList = z.object({ tokens: z.array(TokenView) });

/** Limits of a namespace; null is none. */
export const Quota = z.strictObject({
  functions: z.number().int().min(0).max(1_000_000).nullable().default(null),
  /** Sum of the memory limits of its instances, MiB. */
  memoryMib: z.number().int().min(0).max(1_073_741_824).nullable().default(null),
  /** Requests at a time over all gateways. */
  concurrency: z.number().int().min(0).max(1_000_000).nullable().default(null),
  /** Over all gateways. */
  requestsPerSecond: z.number().min(0).max(10_000_000).nullable().default(null),
  /** Of one bundle as uploaded, bytes. */
  bundleBytes: z.number().int().min(0).max(1_073_741_824).nullable().default(null),
});
export type Quota = z.infer<typeof Quota>;
export const NO_QUOTA: Quota = Quota.parse({});

/** Body of PUT /v1/namespaces/:namespace, and what GET answers with. */
export const NamespaceSettings = z.strictObject({
  quota: Quota.prefault({}),
  /**
   * Hosts that its functions may have routes for; a function of another namespace than `default` has no
   * routes without a host, and none for a host that is not listed. `default` may use any that no other lists.
   */
  hosts: z.array(HostPattern).max(256).default([]),
  /**
   * Networks (IPv4) that triggers and destinations of its functions may dial beside public addresses. null: any for
   * `default`, whose brokers are the operator's own; none for other namespaces.
   */
  networks: z.array(Cidr).max(64).nullable().default(null),
});
export type NamespaceSettings = z.infer<typeof NamespaceSettings>;
export type NamespaceSettingsInput = z.input<typeof NamespaceSettings>;

export const NamespaceView = NamespaceSettings.extend({
  name: Namespace,
  /** What it uses of its quota now. */
  usage: z.object({ functions: z.number().int(), memoryMib: z.number() }),
});
export type NamespaceView = z.infer<typeof NamespaceView>;
export const NamespaceList = z.object({ namespaces: z.array(NamespaceView) });

/** Longest value of a secret, bytes of UTF-8. */
export const MAX_SECRET_BYTES = 65_536;

/** Body of PUT /v1/namespaces/:namespace/secrets/:name */
export const PutSecretRequest = z.strictObject({
  value: z
    .string()
    .max(MAX_SECRET_BYTES)
    .refine((value) => !value.includes('\0'), { message: 'a value must not hold NUL' }),
});
export type PutSecretRequest = z.infer<typeof PutSecretRequest>;

/** A secret as it is shown: never its value. */
export const SecretView = z.object({
  namespace: Namespace,
  name: SecretName,
  /** Raised by each change of the value, never used again. */
  version: z.number().int().positive(),
  updatedAt: z.number().int(),
  /** Functions whose kept revisions name it. */
  usedBy: z.array(z.string()),
});
export type SecretView = z.infer<typeof SecretView>;
export const SecretList = z.object({ secrets: z.array(SecretView) });

/** One change, and who made it. Written before the change is answered. */
export const AuditEntry = z.object({
  id: z.number().int().positive(),
  t: z.number().int(),
  /** Principal's id and name. */
  by: z.object({ id: z.string(), name: z.string() }),
  /** `function.deploy`, `secret.set`, `token.revoke`, … */
  action: z.string(),
  namespace: z.string().nullable(),
  /** What was changed: the name of the function, secret or token. */
  subject: z.string(),
  /** Id of the request to the API. */
  request: z.string(),
  /** `ok`, or the code of the problem it was answered with. */
  outcome: z.string(),
  /** What changed, in short; never a value of a secret, never a token. */
  detail: z.record(z.string(), z.unknown()),
});
export type AuditEntry = z.infer<typeof AuditEntry>;
export const AuditList = z.object({ entries: z.array(AuditEntry) });
/** Query of GET /v1/audit: the newest first. */
export const AuditQuery = z.strictObject({
  namespace: Namespace.optional(),
  since: z.coerce.number().int().min(0).optional(),
  /** Entries older than this id: the next page. */
  before: z.coerce.number().int().min(1).optional(),
  limit: z.coerce.number().int().min(1).max(1_000).optional(),
});
export type AuditQuery = z.infer<typeof AuditQuery>;

/** Answer of GET /v1/whoami */
export const WhoAmI = Principal.extend({ version: z.string() });
export type WhoAmI = z.infer<typeof WhoAmI>;
