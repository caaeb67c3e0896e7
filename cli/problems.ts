/** What the API answers when it says no, as errors of the CLI. */
import { ERRORS } from '#contract/errors.ts';
import type { FunctionError, Problem } from '#contract/errors.ts';
import type { ExitCode } from './errors.ts';
import { CliError, EXIT, stackLines } from './errors.ts';

function exitCodeOf({ status, code }: Problem): ExitCode {
  // A quota is no question of who asks.
  if (code === 'quota-exceeded') return EXIT.failed;
  if (status === 401 || status === 403) return EXIT.notAuthorised;
  if (code === 'invalid' || code === 'bad-request') return EXIT.usage;
  return EXIT.failed;
}

/** The option that sets a field of the settings, where the name differs from the field's. */
const FLAGS: Record<string, string> = {
  memoryMib: '--memory',
  cpu: '--cpu',
  timeoutSeconds: '--timeout',
  keepAliveSeconds: '--keep-alive',
  concurrency: '--concurrency',
  min: '--min',
  max: '--max',
  egress: '--egress',
  sandbox: '--sandbox',
  env: '--env',
  runtime: '--runtime',
  secrets: '--secret',
  maxStreamSeconds: '--max-stream',
};

/** The same for how the function is reached. */
const ACCESS_FLAGS: Record<string, string> = { routes: '--route', auth: '--auth' };

/** `/settings/memoryMib` is `--memory` to who typed it. */
export function fieldLabel(pointer: string): string {
  const [first, second, ...rest] = pointer.replace(/^\//, '').split('/');
  if (first === 'message' && second === undefined) return '--message';
  const flag =
    second === undefined ? undefined : first === 'settings' ? FLAGS[second] : first === 'access' ? ACCESS_FLAGS[second] : undefined;
  // Which of several secrets or hosts it is, its name tells; the number of its place would be read as a value.
  return flag === undefined ? pointer : [flag, ...(second === 'secrets' || second === 'egress' ? [] : rest)].join(' ');
}

/** What to do about it with this CLI, where the registry speaks to who makes requests by hand. */
const REMEDIES_HERE: Readonly<Record<string, string>> = {
  unauthorized:
    'Log in: fn login URL; or set FN_TOKEN to a token that is good (HOME/token of that platform is one, or in Kubernetes the Secret NAME-api-token).',
  invalid: 'Correct what is named above.',
  'runtime-missing': 'Build it with `fn runtimes build NAME`; in Kubernetes: `fn images push`, and runtimes.NAME.enabled of the chart.',
  'deploy-refused': 'Correct the function. If there is a revision before this one, it keeps serving.',
};

/** Place and message, then the calls that led there; the place is not told twice. */
function functionErrorLines({ name, message, at, stack }: FunctionError): string[] {
  const calls = stackLines(stack);
  const onlyPlace = calls.length === 1 && at !== undefined && calls[0]!.includes(at);
  return [`${at === undefined ? '' : `${at}: `}${name}: ${message}`, ...(onlyPlace ? [] : calls)];
}

/** Makes what the API answered into an error of the CLI. */
export function problemError(problem: Problem): CliError {
  const details = (problem.errors ?? []).map((field) => `${fieldLabel(field.pointer)}: ${field.detail}`);
  const { functionError } = problem;
  if (functionError) details.push(...functionErrorLines(functionError));
  const remedy = Object.entries(ERRORS).find(([code]) => code === problem.code)?.[1].remedy;
  // The detail repeats what is shown with its place below.
  const below = functionError !== undefined || (problem.errors ?? []).some(({ detail }) => problem.detail.includes(detail));
  const message = below ? problem.title : `${problem.title}: ${problem.detail}`;
  return new CliError(`${message} (${problem.code})`, {
    exitCode: exitCodeOf(problem),
    details,
    hint: REMEDIES_HERE[problem.code] ?? remedy,
    code: problem.code,
  });
}
