/** What went wrong between the gateway and an instance, in the words of the registry. */
import type { ErrorCode } from '#contract/errors.ts';
import type { Cause } from './demand.ts';
import { ResponseError } from './response-lines.ts';

/** Where the error means that the instance does not speak HTTP as it should: what it did. Otherwise null. */
export function causeOfBadResponse(error: Error): string | null {
  return error instanceof ResponseError ? error.message : null;
}

/** The answer for a request whose instance went away while it worked on it. */
export function lossOf(cause: Cause | null, error: Error): { code: ErrorCode; detail: string } {
  const said = cause?.detail ? `: ${cause.detail}` : '';
  switch (cause?.cause) {
    case 'oom':
      return { code: 'function-oom', detail: `the instance ran out of memory${said}` };
    case 'exit':
      return { code: 'function-crashed', detail: `the process of the function ended${said}` };
    case 'timeout':
      return { code: 'instance-lost', detail: 'the instance was ended because another request overran its timeout' };
    case 'stopped':
    case 'lost':
      return { code: 'instance-lost', detail: `the instance was lost${said}` };
    case undefined:
      return { code: 'instance-lost', detail: `the connection to the instance broke: ${error.message}` };
  }
}
