/**
 * Names and identifiers, as they appear in URLs, labels, logs and on the wire.
 */
import { z } from 'zod';

/** RFC 1123 label: lower case, digits and `-`, at most 63 characters. */
export const LABEL_PATTERN = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;

/** Names that would be mistaken for a property of every JavaScript object. */
const RESERVED_NAMES = new Set(['constructor', 'prototype', 'tostring', 'valueof']);

const label = (what: string, rule = `${what} must be 1–63 characters of a–z, 0–9 and -, and not begin or end with -`) =>
  z
    .string()
    .regex(LABEL_PATTERN, rule)
    .refine((name) => !RESERVED_NAMES.has(name), { message: `this ${what} is reserved` });

/** The name of a function within its namespace. */
export const FunctionName = label('function name');
export type FunctionName = z.infer<typeof FunctionName>;

/** A namespace. Functions of `default` are served at `/NAME`, others at `/@NS/NAME`. */
export const Namespace = label('namespace');
export type Namespace = z.infer<typeof Namespace>;
export const DEFAULT_NAMESPACE = 'default';

/** A runtime: the name of a folder in runtime-images/ that can become any function of its language. */
export const RuntimeName = label(
  'runtime',
  'runtime must be one that `fn runtimes list` shows, such as node, python, bun, deno, binary or image',
);
export type RuntimeName = z.infer<typeof RuntimeName>;

/** Content address of a bundle: SHA-256 over the bytes that were uploaded. */
export const BundleDigest = z.string().regex(/^sha256:[0-9a-f]{64}$/, 'a digest is sha256: and 64 hex digits');
export type BundleDigest = z.infer<typeof BundleDigest>;

/** An instance: `i-` and 12 characters. Also the container's name suffix and its folder's name. */
export const InstanceId = z.string().regex(/^i-[a-z0-9]{12}$/);
export type InstanceId = z.infer<typeof InstanceId>;

/** A lease: random, never used again. */
export const LeaseId = z.string().regex(/^l-[a-z0-9]{16}$/);
export type LeaseId = z.infer<typeof LeaseId>;

/**
 * One immutable deployment: `NAMESPACE/NAME@NUMBER`. Numbers are never used again, not even after
 * the function was deleted, so the key names one revision for ever.
 */
export const RevisionKey = z.string().regex(/^[a-z0-9-]{1,63}\/[a-z0-9-]{1,63}@[1-9][0-9]{0,9}$/);
export type RevisionKey = z.infer<typeof RevisionKey>;

/** `default/hello@7` */
export function revisionKey(namespace: string, name: string, number: number): RevisionKey {
  return `${namespace}/${name}@${number}`;
}

/** Takes `default/hello@7` apart. Throws where the key is not one of ours. */
export function parseRevisionKey(key: RevisionKey): { namespace: string; name: string; number: number } {
  const match = /^([^/]+)\/([^@]+)@(\d+)$/.exec(key);
  if (!match) throw new Error(`not a revision key: ${JSON.stringify(key)}`);
  return { namespace: match[1]!, name: match[2]!, number: Number(match[3]) };
}

/**
 * The name of a secret: what the function finds it under in its environment, so it is written like a
 * variable. Names that begin with FN_ are the platform's.
 */
export const SecretName = z
  .string()
  .regex(/^[A-Za-z_][A-Za-z0-9_]{0,127}$/, 'a secret name is letters, digits and _, and does not begin with a digit')
  .refine((name) => !name.startsWith('FN_'), { message: 'names that begin with FN_ belong to the platform' })
  // As the name of a field it would be taken for something else on its way to the function.
  .refine((name) => name !== '__proto__', { message: 'this name is reserved' });
export type SecretName = z.infer<typeof SecretName>;

/** A token's public half: `t-` and 12 characters. The whole token is `fn_` + these 12 characters + `_` + 43 of its secret. */
export const TokenId = z.string().regex(/^t-[a-z0-9]{12}$/);
export type TokenId = z.infer<typeof TokenId>;

/** What a person reads: `hello@7`, with the namespace before it where it is not the default one. */
export function revisionLabel(key: RevisionKey): string {
  return key.startsWith(`${DEFAULT_NAMESPACE}/`) ? key.slice(DEFAULT_NAMESPACE.length + 1) : key;
}

/** The path under which one revision is served, whatever the traffic: `/hello@7`. */
export const previewPath = (namespace: string, name: string, number: number): string => `${functionPath(namespace, name)}@${number}`;

/** The path under which the gateway serves a function. */
export function functionPath(namespace: string, name: string): string {
  return namespace === DEFAULT_NAMESPACE ? `/${name}` : `/@${namespace}/${name}`;
}
