/** What went wrong between the gateway and an instance, in the words of the registry. */
import { errors } from 'undici';
import type { ErrorCode } from '#contract/errors.ts';
import type { Cause } from './demand.ts';

const codeOf = (error: Error): string => ('code' in error && typeof error.code === 'string' ? error.code : '');

/** Where the error means that the instance does not speak HTTP as it should: what it did. Otherwise null. */
export function causeOfBadResponse(error: Error): string | null {
  const code = codeOf(error);
  if (error instanceof errors.HTTPParserError) return `the response is not HTTP: ${error.message}`;
  if (code === 'UND_ERR_HEADERS_OVERFLOW') return 'the headers of the response are too large';
  if (code === 'UND_ERR_RES_CONTENT_LENGTH_MISMATCH') return 'the length of the response is not its Content-Length';
  if (code === 'UND_ERR_SOCKET' && error.message.startsWith('bad ')) return 'the response is an answer to something that was not asked';
  if (code === 'ERR_ASSERTION') return 'the response is not HTTP';
  return null;
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
