/** An invocation that is answered later: `fn invoke --async`, as any client would make it. */
import { EVENT_HEADERS, EventId, InvocationView } from '#contract/events.ts';
import { sleep } from '#kit/clock.ts';
import type { Context } from './context.ts';
import { painter, print, printJson, say } from './context.ts';
import type { ExitCode } from './errors.ts';
import { CliError, EXIT } from './errors.ts';
import type { Reply } from './http.ts';
import { readBody, request } from './http.ts';
import { renderInvocation } from './invocation-view.ts';
import { printable } from './output.ts';

export interface AsyncOptions {
  idempotencyKey?: string | undefined;
  orderKey?: string | undefined;
  /** Milliseconds. */
  delayMs?: number | undefined;
  /** Until it is over; the result is printed then. */
  wait: boolean;
}

/** Between two looks at the state, ms: at first, and at most. */
const POLL_MS = { first: 50, most: 1_000 } as const;
/** Of a look. */
const ANSWER_TIMEOUT_MS = 30_000;
/** Looks that may fail one after the other: a gateway that is started anew is away for a moment. */
const MAX_FAILED_LOOKS = 10;
const MAX_VIEW_BYTES = 64 * 1024;
const MAX_RESULT_READ_BYTES = 1024 * 1024;
const NEWLINE = 10;

/** Headers that ask for it. */
export function asyncHeaders({ idempotencyKey, orderKey, delayMs }: AsyncOptions): Record<string, string> {
  return {
    [EVENT_HEADERS.prefer]: 'respond-async',
    ...(idempotencyKey === undefined ? {} : { [EVENT_HEADERS.idempotencyKey]: idempotencyKey }),
    ...(orderKey === undefined ? {} : { [EVENT_HEADERS.orderKey]: orderKey }),
    ...(delayMs === undefined ? {} : { [EVENT_HEADERS.delay]: String(delayMs / 1_000) }),
  };
}

/** Where the state can be read; null: the answer is the function's own, or a refusal. */
export function acceptedAt({ status, headers }: Reply, url: URL): URL | null {
  const { location } = headers;
  return status === 202 && location !== undefined && headers[EVENT_HEADERS.preferenceApplied] !== undefined ? new URL(location, url) : null;
}

interface Accepted {
  namespace: string;
  name: string;
  location: URL;
  /** Of the call, for who asks what became of it. */
  authorization: string | undefined;
  /** Its Idempotency-Key was used before: it is that invocation. */
  replayed: boolean;
  wait: boolean;
  json: boolean;
}

/** Tells the id, or waits for the end and prints the result. Exit code 1 where it failed. */
export async function followInvocation(ctx: Context, accepted: Accepted): Promise<ExitCode> {
  const { namespace, name, location, replayed, wait, json } = accepted;
  const id = EventId.parse(location.pathname.split('/').at(-1));
  const was = replayed ? 'accepted before, under the same idempotency key' : 'accepted';
  const inNamespace = namespace === 'default' ? '' : ` -n ${namespace}`;
  if (!wait) {
    if (json) printJson(ctx, { id, url: location.href });
    else print(ctx, id);
    say(ctx, `${was}: ${location.href}`);
    say(ctx, `What became of it: fn invocation show ${name} ${id}${inNamespace}`);
    return EXIT.ok;
  }
  say(ctx, `${was}: ${id}`);
  const view = await untilOver(ctx, accepted);
  const answer = view.result === null ? null : await resultOf(ctx, accepted);
  if (json)
    printJson(ctx, {
      ...view,
      url: location.href,
      answer: answer === null ? null : { status: answer.status, bodyBase64: answer.body.toString('base64') },
    });
  else if (answer !== null) {
    ctx.stdout.write(answer.body);
    if (ctx.stdout.isTTY === true && answer.body.at(-1) !== NEWLINE) say(ctx, '');
  }
  const paint = painter(ctx.stderr, ctx.env);
  if (view.state === 'succeeded') {
    say(ctx, `${paint('green', 'succeeded')} after ${view.attempts} ${view.attempts === 1 ? 'attempt' : 'attempts'}`);
    return EXIT.ok;
  }
  ctx.stderr.write(`${paint('red', view.state)}\n${renderInvocation(view, Date.now())}`);
  if (view.state === 'failed')
    say(ctx, `  ${paint('dim', '→')} fn dlq show ${name} ${id}${inNamespace} has what was sent; fn dlq redrive tries it again.`);
  return EXIT.failed;
}

async function untilOver(ctx: Context, accepted: Accepted): Promise<InvocationView> {
  let pause: number = POLL_MS.first;
  for (let failed = 0; ;) {
    const view = await look(ctx, accepted).catch((error: unknown) => {
      ctx.signal.throwIfAborted();
      failed += 1;
      if (error instanceof CliError || failed > MAX_FAILED_LOOKS) throw error;
      return null;
    });
    if (view !== null) failed = 0;
    if (view !== null && view.finishedAt !== null) return view;
    await sleep(pause, ctx.signal);
    pause = Math.min(POLL_MS.most, pause * 2);
  }
}

/** null: nobody can say at the moment. Throws CliError where it is not there. */
async function look(ctx: Context, { location, authorization, name }: Accepted): Promise<InvocationView | null> {
  const reply = await ask(ctx, location, authorization);
  const text = (await readBody(reply, MAX_VIEW_BYTES)).toString('utf8');
  if (reply.status === 503 || reply.status === 429) return null;
  if (reply.status !== 200)
    throw new CliError(`what became of it cannot be read: the gateway answered ${reply.status}: ${printable(text.slice(0, 500))}`, {
      hint: `See fn invocation list ${name}.`,
    });
  const parsed = InvocationView.safeParse(JSON.parse(text));
  if (parsed.success) return parsed.data;
  throw new CliError('the state is not what this version of fn expects', { hint: 'Is another version of fn running?' });
}

async function resultOf(ctx: Context, { location, authorization }: Accepted): Promise<{ status: number; body: Buffer }> {
  const reply = await ask(ctx, new URL(`${location.href}/result`), authorization);
  return { status: reply.status, body: await readBody(reply, MAX_RESULT_READ_BYTES) };
}

function ask(ctx: Context, url: URL, authorization: string | undefined): Promise<Reply> {
  const headers: Record<string, string> = authorization === undefined ? {} : { authorization };
  return request({ url }, { method: 'GET', path: url.search, headers, signal: ctx.signal, timeoutMs: ANSWER_TIMEOUT_MS });
}
