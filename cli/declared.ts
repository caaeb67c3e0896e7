/** Functions that an object of Kubernetes declares: who changes one past the object is told so. */
import type { FunctionView } from '#contract/function.ts';
import type { ApiClient } from './client.ts';
import type { Context } from './context.ts';
import { painter, say } from './context.ts';

/** null: it is declared by nobody. */
export function declaredText({ name, declaredBy }: Pick<FunctionView, 'name' | 'declaredBy'>): string | null {
  if (declaredBy === undefined) return null;
  const object = `${declaredBy.namespace}/${declaredBy.name}`;
  return `${name} is declared by Function ${object} of Kubernetes; its status tells of this change, and the next change of the object replaces it`;
}

export function warnDeclared(ctx: Context, view: Pick<FunctionView, 'name' | 'declaredBy'>): void {
  const text = declaredText(view);
  if (text !== null) say(ctx, `${painter(ctx.stderr, ctx.env)('yellow', 'warning:')} ${text}`);
}

/** The same where the function has to be asked for. */
export async function warnIfDeclared(ctx: Context, client: ApiClient, namespace: string, name: string): Promise<void> {
  try {
    warnDeclared(ctx, await client.describe(namespace, name));
  } catch {
    // That it is not there, or may not be seen, is told by the change that follows.
  }
}
