/** What Redis says, in words that tell what to do. */
import { ERRORS, type ErrorCode, FnError } from '#contract/errors.ts';

/** By the first word of an error reply. */
const ADVICE: Readonly<Record<string, string>> = {
  BUSY: 'a script of somebody else runs too long in it: see SLOWLOG GET',
  CLUSTERDOWN: 'the cluster has no quorum: bring its nodes back',
  LOADING: 'it has just started and reads its data: wait',
  MASTERDOWN: 'it is a replica that has lost its master',
  MISCONF: 'it cannot write to its disk: free some space, and see its log',
  MOVED: 'it is a node of a cluster, and another one has our keys: give the address of that one, or of a Redis that is no cluster',
  NOAUTH: 'it wants a password: redis://:PASSWORD@HOST or redis://USER:PASSWORD@HOST in FN_STORE',
  NOPERM: 'the user may not do that: it needs every command on the keys fn:*',
  NOREPLICAS: 'too few of its replicas are in reach (min-replicas-to-write)',
  OOM: 'its memory is full (maxmemory): give it more',
  READONLY: 'it is a replica: give the address of the master',
  WRONGPASS: 'the user or the password is wrong',
};

/** What a script of ours says with redis.error_reply('FN CODE what happened'). */
const OURS = /^FN (\S+) (.*)$/s;

const isCode = (text: string): text is ErrorCode => Object.hasOwn(ERRORS, text);

/** True for an answer of Redis that another try will not change: who waits for it to come up need not. */
export function isRefusal(message: string): boolean {
  return /^(?:NOAUTH|WRONGPASS|NOPERM|MOVED)\b|^ERR (?:invalid password|AUTH|DB index|Client sent AUTH)/.test(message);
}

/**
 * FnError for what went wrong with a command: store-unavailable, or what one of our scripts said. An error reply that says that
 * the command itself is wrong is a bug of ours and comes back as it is. `address`: without its password.
 */
export function redisError(error: unknown, address: string): unknown {
  if (error instanceof FnError || !(error instanceof Error)) return error;
  const { message } = error;
  const [, code, detail] = OURS.exec(message) ?? [];
  if (code !== undefined && isCode(code)) return new FnError(code, detail!, code === 'not-leader' ? { retryAfterSeconds: 1 } : {});
  const word = /^[A-Z]+/.exec(message)?.[0] ?? '';
  const advice = ADVICE[word];
  if (error.name === 'ReplyError' && advice === undefined && !/max number of clients|DB index|AUTH|password/i.test(message)) return error;
  return unavailable(address, cause(error), advice, error);
}

/** The library's words for a connection that is not there are its own matter. */
function cause(error: Error): string {
  if (/enableOfflineQueue|MaxRetriesPerRequest|max retries per request|Connection is closed/i.test(`${error.name} ${error.message}`))
    return 'there is no connection to it';
  if (/timed out|Socket timeout/.test(error.message)) return 'it did not answer in time';
  return error.message;
}

export function unavailable(address: string, why: string, advice?: string, error?: unknown): FnError {
  return new FnError('store-unavailable', `The store ${address} failed (${why})${advice === undefined ? '.' : `; ${advice}.`}`, {
    cause: error,
    retryAfterSeconds: 1,
  });
}
