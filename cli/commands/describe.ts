import type { FunctionAccess } from '#contract/access.ts';
import type { FunctionView } from '#contract/function.ts';
import type { CommandSpec, Input } from '../command.ts';
import { HOME_OPTION, JSON_OPTION, NAMESPACE_OPTION } from '../command.ts';
import type { Context } from '../context.ts';
import { printJson } from '../context.ts';
import { fields, formatAge, printable } from '../output.ts';
import type { ApiClient } from '../client.ts';
import { CliError, EXIT } from '../errors.ts';
import { renderRevisions } from './revisions.ts';

export const describe: CommandSpec = {
  name: 'describe',
  summary: 'show a function: URLs, traffic, settings, triggers, backlog',
  args: [{ name: 'name', description: 'name of the function', completes: 'function' }],
  options: [NAMESPACE_OPTION, HOME_OPTION, JSON_OPTION],
  examples: ['fn describe hello', 'fn describe api -n shop --json'],
  run,
};

async function run(ctx: Context, input: Input): Promise<void> {
  const [{ connect }, { chosenNamespace }, { routeText }, { stickyText }] = await Promise.all([
    import('../client.ts'),
    import('../names.ts'),
    import('#contract/access.ts'),
    import('../traffic.ts'),
  ]);
  const client = connect(ctx);
  const namespace = chosenNamespace(ctx, input);
  const view = await client.describe(namespace, input.arg(0));
  if (input.flag('json')) {
    printJson(ctx, view);
    return;
  }
  const [kept, events] = await Promise.all([client.revisions(namespace, input.arg(0)), eventParts(client, view)]);
  const pairs = [...functionFields(view), ...accessFields(view.access, routeText, stickyText), ...events.pairs];
  ctx.stdout.write(`${fields(pairs)}${events.triggers}\n${renderRevisions(kept, Date.now())}`);
}

/** Names of environment variables are shown, their values are not: --json gives them to who asks. */
function functionFields({ namespace, name, url, urls, revision, instances, declaredBy }: FunctionView): (readonly [string, string])[] {
  const { settings, message } = revision;
  return [
    ['name', `${namespace}/${name}`],
    ['url', url],
    ...urls.map((one) => ['', one] as const),
    ['revision', `${name}@${revision.number}, deployed ${new Date(revision.createdAt).toISOString()}`],
    ...(message === undefined ? [] : [['message', printable(message).replaceAll('\n', ' ')] as const]),
    ...(declaredBy === undefined
      ? []
      : [
          [
            'declared',
            `by Function ${declaredBy.namespace}/${declaredBy.name} of Kubernetes, generation ${declaredBy.generation}`,
          ] as const,
        ]),
    ['form', revision.form],
    ['runtime', settings.runtime],
    revision.image === null ? ['bundle', `${revision.bundle} (${revision.entry})`] : ['image', revision.image],
    ['memory', `${settings.memoryMib} MiB`],
    ['cpu', `${settings.cpu} cores`],
    ['timeout', `${settings.timeoutSeconds} s; streams ${settings.maxStreamSeconds} s`],
    ['concurrency', `${settings.concurrency} per instance`],
    ['instances', `${instances} now; from ${settings.min} to ${settings.max}`],
    ['keep-alive', settings.keepAliveSeconds === 'auto' ? 'auto' : `${settings.keepAliveSeconds} s`],
    ['egress', Array.isArray(settings.egress) ? settings.egress.join(', ') : settings.egress],
    ...(settings.sandbox === null ? [] : [['sandbox', settings.sandbox] as const]),
    ['env', Object.keys(settings.env).join(', ') || 'none'],
    ['secrets', settings.secrets.join(', ') || 'none'],
  ];
}

/** What waits, and how its triggers do. That nobody can say at the moment leaves the rest of the function to be shown. */
async function eventParts(
  client: ApiClient,
  { namespace, name, access }: FunctionView,
): Promise<{ pairs: (readonly [string, string])[]; triggers: string }> {
  const { renderTriggers, span } = await import('../trigger-view.ts');
  const { destinationText } = await import('../trigger-text.ts');
  const { async } = access;
  const later = async.enabled
    ? `${async.maxAttempts} attempts within ${span(async.maxAgeSeconds)}, at most ${async.maxQueued} wait`
    : 'off: Prefer: respond-async is the function’s own';
  const to = (label: string, list: FunctionAccess['async']['onFailure']) =>
    list.map((one) => [label, printable(destinationText(one))] as const);
  const fixed = [['async', later] as const, ...to('on success', async.onSuccess), ...to('on failure', async.onFailure)];
  try {
    const [backlog, triggers] = await Promise.all([
      client.events.backlog(namespace, name),
      access.triggers.length === 0 ? [] : client.events.triggers(namespace, name),
    ]);
    const { waiting, running, dead } = backlog;
    const words =
      waiting + running + dead === 0 ? 'none' : `${waiting} wait, ${running} run, ${dead} dead${dead === 0 ? '' : `: fn dlq list ${name}`}`;
    return { pairs: [...fixed, ['backlog', words]], triggers: triggers.length === 0 ? '' : `\n${renderTriggers(triggers, Date.now())}` };
  } catch (error) {
    if (!(error instanceof CliError) || error.exitCode !== EXIT.failed) throw error;
    return { pairs: [...fixed, ['backlog', `unknown: ${printable(error.message)}`]], triggers: '' };
  }
}

/** As fn.yaml has it, `16Mi`, so that it can be copied from here to there. */
function binarySize(bytes: number): string {
  const unit = (['Gi', 'Mi', 'Ki'] as const).find((_, index) => bytes % 1_024 ** (3 - index) === 0);
  return unit === undefined ? String(bytes) : `${bytes / 1_024 ** { Ki: 1, Mi: 2, Gi: 3 }[unit]}${unit}`;
}

function accessFields(
  { routes, auth, cors, rateLimit, sticky, logs }: FunctionAccess,
  routeText: (route: FunctionAccess['routes'][number]) => string,
  stickyText: (sticky: FunctionAccess['sticky']) => string,
): (readonly [string, string])[] {
  return [
    ...(routes.length === 0
      ? [['routes', 'none but its own'] as const]
      : routes.map((route, index) => [index === 0 ? 'routes' : '', routeText(route)] as const)),
    ['auth', auth.type === 'jwt' ? printable(`jwt by ${auth.issuer} for ${[auth.audience].flat().join(', ')}`) : auth.type],
    ['cors', cors === null ? 'none' : cors.origins.join(', ')],
    [
      'rate limit',
      rateLimit === null
        ? 'none'
        : `${rateLimit.requestsPerSecond} a second${rateLimit.burst === undefined ? '' : `, ${rateLimit.burst} at once`}, by ${rateLimit.by}`,
    ],
    ['sticky', stickyText(sticky)],
    ['logs', `${binarySize(logs.maxBytes)}, ${formatAge(logs.maxAgeSeconds)}`],
  ];
}
