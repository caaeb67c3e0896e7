import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ERRORS, ErrorCode, type ErrorEntry, type Fault, FnError, Problem, problem } from './errors.ts';

const entries: [string, ErrorEntry][] = Object.entries(ERRORS);

const FAULTS: Record<Fault, string> = {
  caller: 'Who sent the request has to change something.',
  function: "The function's author has to change something.",
  platform: 'Whoever runs fn has to look; often it is enough to try again.',
};

/** docs/errors.md, from the registry. */
function errorsDocument(): string {
  const sections = (Object.keys(FAULTS) as Fault[]).map((fault) => {
    const rows = entries
      .filter(([, entry]) => entry.fault === fault)
      .map(([code, { status, title, remedy }]) => `| \`${code}\` | ${status} | ${title} | ${remedy} |`);
    return `## Fault of the ${fault}\n\n${FAULTS[fault]}\n\n| code | status | title | what to do |\n|---|---|---|---|\n${rows.join('\n')}\n`;
  });
  return `# Errors

Every error that fn answers with, from the gateway and from the control API alike, is one of these. The body is
\`application/problem+json\` ([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457)):

\`\`\`json
${JSON.stringify(problem('invalid', '/settings/memoryMib: Too small: expected number to be >=64', { instance: 'k3v9x0q2ab-1f', errors: [{ pointer: '/settings/memoryMib', detail: 'Too small: expected number to be >=64' }] }), null, 2)}
\`\`\`

- \`code\` is what programs should look at; it never changes its meaning. \`type\` is the same as a URN.
- \`detail\` is for people, and says what was wrong this time.
- \`instance\` is the id of the request, also in the header \`x-request-id\`, in the logs of fn and in those of the function.
- \`errors\` names each field: a JSON pointer into the body, or \`path/NAME\`, or \`query/NAME\`.
- \`functionError\` is the error that the function threw, with its place in the source.
- 429 and 503 carry \`Retry-After\`, 401 carries \`WWW-Authenticate\`, 405 carries \`Allow\`.

This page is written from \`controller/contract/errors.ts\`; a test fails when the two differ
(\`npx vitest run --config test/vitest.config.ts controller/contract/errors.test.ts --update\` writes it again).

${sections.join('\n')}`;
}

describe('the registry', () => {
  it('is what docs/errors.md says', async () => {
    await expect(errorsDocument()).toMatchFileSnapshot(join(import.meta.dirname, '../../docs/errors.md'));
  });

  it.each(entries)('%s: a status that fits its fault, and words that can go into a table', (code, { status, fault, title, remedy }) => {
    expect(code).toMatch(/^[a-z]+(-[a-z]+)*$/);
    expect(Number.isInteger(status) && status >= 400 && status < 600).toBe(true);
    if (fault === 'platform') expect(status).toBeGreaterThanOrEqual(500);
    for (const text of [title, remedy]) expect(text).toMatch(/^[A-Z][^|\n]+$/);
    expect(title).not.toMatch(/\.$/);
    expect(remedy).toMatch(/\.$/);
  });

  it('has a code for each entry and an entry for each code', () => {
    expect(ErrorCode.options.toSorted()).toEqual(Object.keys(ERRORS).toSorted());
  });
});

describe('problem', () => {
  it('has what RFC 9457 asks for, and nothing that is undefined', () => {
    const made = problem('function-not-found', 'There is no x.');
    expect(made).toEqual({
      type: 'urn:fn:error:function-not-found',
      title: 'No such function',
      status: 404,
      detail: 'There is no x.',
      code: 'function-not-found',
    });
    expect(Object.values(made)).not.toContain(undefined);
    expect(Problem.parse(made)).toEqual(made);
  });
});

describe('FnError', () => {
  it('becomes a problem without its cause, its stack or its Retry-After', () => {
    const error = new FnError('store-unavailable', 'Disk full.', {
      cause: new Error('secret'),
      retryAfterSeconds: 5,
      errors: [{ pointer: '/a', detail: 'b' }],
    });
    expect(error.status).toBe(503);
    expect(error.toProblem('r-1')).toEqual({
      ...problem('store-unavailable', 'Disk full.'),
      instance: 'r-1',
      errors: [{ pointer: '/a', detail: 'b' }],
    });
    expect(JSON.stringify(error.toProblem())).not.toContain('secret');
    expect(error.cause).toBeInstanceOf(Error);
  });
});
