/** What goes into init, and what can come of it, in the words that people read. */
import type { FnError } from '#contract/errors.ts';
import { memoryClass } from '#contract/function.ts';
import type { InitRequest } from '#contract/runtime.ts';
import type { Instance, RevisionState } from '../core/world.ts';
import { LimitBusy, type Exit } from '../driver/types.ts';
import { messageOf, type StartFailure } from './context.ts';

export function initRequest(
  instance: Instance,
  state: RevisionState,
  { code, codeCache }: { code: string; codeCache: boolean },
  secrets: Record<string, string>,
): InitRequest {
  const { revision } = state;
  const { settings } = revision;
  return {
    nonce: instance.nonce,
    revision: state.key,
    namespace: revision.namespace,
    name: revision.name,
    number: revision.number,
    code,
    entry: revision.entry,
    env: { ...settings.env, ...secrets },
    slots: state.slots,
    timeoutMs: settings.timeoutSeconds * 1_000,
    memoryMib: settings.memoryMib,
    memoryClassMib: memoryClass(settings.memoryMib),
    ...(codeCache ? { codeCache } : {}),
  };
}

export function loadFailure(error: NonNullable<StartFailure['functionError']>): StartFailure {
  return {
    code: 'function-init-failed',
    detail: `${error.name}: ${error.message}${error.at ? ` (${error.at})` : ''}`,
    functionError: error,
  };
}

/** A secret that was there when the revision was deployed. */
export const missingSecret = (error: FnError): StartFailure => ({ code: 'function-init-failed', detail: error.message });

export function earlyExitFailure(exit: Exit): StartFailure {
  if (exit.cause === 'oom')
    return { code: 'function-oom', detail: 'It ran out of memory while it was loading. Deploy with more --memory.' };
  if (exit.cause === 'lost') return { code: 'start-failed', detail: `The instance was lost while it was loading: ${exit.detail}` };
  return { code: 'function-crashed', detail: `The process ended while it was loading: ${exit.detail}` };
}

/** Something on the way to init, or the connection to it, broke. */
export function brokenStart(key: string, error: unknown): StartFailure {
  // A fresh process is above the limit already: any other would be too.
  if (error instanceof LimitBusy)
    return { code: 'function-oom', detail: `The runtime alone does not fit (${error.message}). Deploy with more --memory.` };
  return { code: 'start-failed', detail: `${key} could not be started: ${messageOf(error)}` };
}
