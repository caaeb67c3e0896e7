/** How invocations that are answered later, and dead letters, look. */
import type { DeadLetterDetail, DeadLetterView, InvocationView } from '#contract/events.ts';
import { fields, formatAge, formatBytes, printable, table } from './output.ts';

const age = (at: number, now: number): string => formatAge(Math.max(0, now - at) / 1_000);
const until = (at: number, now: number): string => formatAge(Math.max(0, at - now) / 1_000);

export function renderInvocations(views: readonly InvocationView[], now: number): string {
  return table(
    [
      { title: 'INVOCATION', value: (row) => row.id },
      { title: 'STATE', value: (row) => row.state },
      { title: 'ATTEMPTS', value: (row) => String(row.attempts), align: 'right' },
      { title: 'AGE', value: (row) => age(row.createdAt, now), align: 'right' },
      { title: 'TRIGGER', value: (row) => row.trigger ?? '–' },
      { title: 'WHAT', value: (row) => outcome(row, now) },
    ],
    views,
  );
}

/** In a few words: what it answered, why it failed, when it is tried next. */
function outcome({ state, result, error, dueAt }: InvocationView, now: number): string {
  if (state === 'succeeded' && result !== null) return `${result.status}, ${formatBytes(result.bytes)}`;
  const why = error === null ? '' : printable(`${error.code}: ${error.detail}`.replaceAll('\n', ' '));
  const next = dueAt !== null && dueAt > now ? `in ${until(dueAt, now)}` : '';
  return [next, why].filter((part) => part !== '').join('; ') || '–';
}

export function renderInvocation(view: InvocationView, now: number): string {
  const { error, result, dueAt, finishedAt, keptUntil } = view;
  const pairs: (readonly [string, string] | null)[] = [
    ['invocation', view.id],
    ['function', `${view.namespace}/${view.function}`],
    ['state', view.state],
    view.trigger === null ? null : ['trigger', view.trigger],
    ['attempts', String(view.attempts)],
    error === null ? null : ['error', printable(`${error.code}: ${error.detail}`)],
    result === null
      ? null
      : [
          'result',
          `${result.status}, ${formatBytes(result.bytes)}${result.truncated ? ', cut' : ''}: fn invocation result ${view.function} ${view.id}`,
        ],
    ['accepted', new Date(view.createdAt).toISOString()],
    dueAt === null ? null : ['next try', dueAt <= now ? 'now' : `in ${until(dueAt, now)}`],
    finishedAt === null ? ['given up', `in ${until(view.expiresAt, now)}`] : ['over', new Date(finishedAt).toISOString()],
    keptUntil === null ? null : ['kept', `for ${until(keptUntil, now)} more`],
    view.orderKey === null ? null : ['order key', printable(view.orderKey)],
    view.revision === null ? null : ['revision', view.revision],
    view.request === null ? null : ['request', `${printable(view.request)}: fn why explains it`],
  ];
  return fields(pairs.filter((pair) => pair !== null));
}

export function renderDeadLetters(views: readonly DeadLetterView[], now: number): string {
  return table(
    [
      { title: 'FUNCTION', value: (row) => row.function },
      { title: 'DEAD LETTER', value: (row) => row.id },
      { title: 'TRIGGER', value: (row) => row.trigger ?? '–' },
      { title: 'WHY', value: (row) => row.reason },
      { title: 'ATTEMPTS', value: (row) => String(row.attempts), align: 'right' },
      { title: 'AGE', value: (row) => age(row.deadAt, now), align: 'right' },
      { title: 'ERROR', value: ({ error }) => printable(`${error.code}: ${error.detail}`.replaceAll('\n', ' ')) },
    ],
    views,
  );
}

const REASONS: Record<DeadLetterView['reason'], string> = {
  attempts: 'it failed as often as it may',
  age: 'its time was over',
  refused: 'the function said that it is not to be tried again',
  'too-large': 'it is larger than the trigger takes',
  undeliverable: 'it cannot be delivered',
  'lost-workers': 'those that worked on it were lost again and again',
};

/** Headers and body as they are: text where it is text. */
export function renderDeadLetter(letter: DeadLetterDetail, now: number): string {
  const { event, error, request } = letter;
  const body = Buffer.from(letter.body, 'base64');
  const pairs: (readonly [string, string] | null)[] = [
    ['dead letter', letter.id],
    ['function', `${letter.namespace}/${letter.function}`],
    letter.trigger === null ? null : ['trigger', letter.trigger],
    letter.message === null ? null : ['message', printable(letter.message)],
    ['why', `${REASONS[letter.reason]}, after ${letter.attempts} ${letter.attempts === 1 ? 'attempt' : 'attempts'}`],
    ['error', printable(`${error.code}: ${error.detail}`)],
    request === null ? null : ['request', `${printable(request)}: fn why explains it`],
    ['accepted', new Date(letter.createdAt).toISOString()],
    ['dead', new Date(letter.deadAt).toISOString()],
    ['kept', `for ${until(letter.keptUntil, now)} more`],
    ['event', printable(`${event.type} of ${event.source}, ${formatBytes(event.bytes)}`)],
  ];
  const headers = letter.headers.map(([name, value]) => `${printable(name)}: ${printable(value)}\n`).join('');
  const text =
    body.length === 0
      ? ''
      : isText(body)
        ? `${printable(body.toString('utf8'))}\n`
        : `(${formatBytes(body.length)}, no text; --json has it in base64)\n`;
  return `${fields(pairs.filter((pair) => pair !== null))}\n${headers}\n${text}`;
}

const isText = (body: Buffer): boolean => body.equals(Buffer.from(body.toString('utf8'), 'utf8')) && !body.includes(0);
