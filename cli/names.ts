/** Names as they were typed, checked before anything is sent. */
import { DEFAULT_NAMESPACE, FunctionName, Namespace, SecretName } from '#contract/names.ts';
import type { Input } from './command.ts';
import type { Context } from './context.ts';
import { remoteOf } from './contexts.ts';
import { usageError } from './errors.ts';

/** Throws usageError where no function can have this name. */
export function checkedName(name: string, hint?: string): string {
  const result = FunctionName.safeParse(name);
  if (!result.success) throw usageError(`${JSON.stringify(name)} is not a function name: ${result.error.issues[0]?.message ?? ''}`, hint);
  return name;
}

/** Throws usageError where it is no namespace's name. */
export function checkedNamespace(namespace: string): string {
  const result = Namespace.safeParse(namespace);
  if (!result.success) throw usageError(`${JSON.stringify(namespace)} is not a namespace: ${result.error.issues[0]?.message ?? ''}`);
  return namespace;
}

/** Throws usageError where no secret can have this name. */
export function checkedSecretName(name: string): string {
  const result = SecretName.safeParse(name);
  if (!result.success) throw usageError(`${JSON.stringify(name)} is not a secret's name: ${result.error.issues[0]?.message ?? ''}`);
  return name;
}

/** The namespace that was said (`-n`, else FN_NAMESPACE); undefined where nobody said any. Throws usageError for what is none. */
export function saidNamespace({ env }: Pick<Context, 'env'>, input: Input): string | undefined {
  const said = input.text('namespace') ?? (env.FN_NAMESPACE === '' ? undefined : env.FN_NAMESPACE);
  return said === undefined ? undefined : checkedNamespace(said);
}

/** What a command is about that names no namespace: FN_NAMESPACE, that of the context, or the default one. */
export function defaultNamespace(ctx: Pick<Context, 'env' | 'said'>): string {
  const { FN_NAMESPACE } = ctx.env;
  if (FN_NAMESPACE !== undefined && FN_NAMESPACE !== '') return checkedNamespace(FN_NAMESPACE);
  return remoteOf(ctx)?.namespace ?? DEFAULT_NAMESPACE;
}

/** The namespace that a command is about. */
export const chosenNamespace = (ctx: Pick<Context, 'env' | 'said'>, input: Input): string =>
  saidNamespace(ctx, input) ?? defaultNamespace(ctx);
