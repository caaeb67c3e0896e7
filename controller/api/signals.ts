/** When to give up work that nobody waits for any more. */
import type { ApiContext } from './env.ts';
import { ClientGone } from './problems.ts';

/** Aborted when the client closes the connection before it was answered in full. */
export function clientGone(c: ApiContext): AbortSignal {
  const { outgoing } = c.env;
  const controller = new AbortController();
  const check = (): void => {
    if (!outgoing.writableFinished) controller.abort(new ClientGone());
  };
  // It may have gone while its body was read.
  if (outgoing.destroyed) check();
  else outgoing.once('close', check);
  return controller.signal;
}
