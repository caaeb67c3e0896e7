import type { CommandSpec, Input } from '../command.ts';
import { CONTEXT_OPTION, HOME_OPTION, JSON_OPTION, NAMESPACE_OPTION } from '../command.ts';
import type { Context } from '../context.ts';
import { printJson, say } from '../context.ts';

/** As the contract has them; named here so that the help costs no schema (a test compares them). */
export const TRIGGER_TYPES = ['redis-stream', 'redis-list', 'rabbitmq', 'nats', 'mqtt', 'kafka', 'cron', 'webhook'] as const;
/** Of webhooks, all whose sender needs no fields of its own, as `hmac` does (the same test). */
export const WEBHOOK_SCHEMES = ['standard', 'github', 'stripe', 'slack', 'none'] as const;

export const triggerAdd: CommandSpec = {
  name: 'trigger add',
  summary: 'add a trigger to a function: a schedule, a queue, a webhook',
  description:
    'The fields of each type are in docs/triggers.md; what fn.yaml takes for them is taken here too. Passwords belong into secrets: write ${secret:NAME} where one stands in a URL.',
  args: [{ name: 'name', description: 'name of the function', completes: 'function' }],
  options: [
    { flags: '--type <type>', description: 'where events come from', choices: TRIGGER_TYPES },
    { flags: '--cron <schedule>', description: "short for --type cron --set schedule=…: '*/5 * * * *', @daily" },
    { flags: '--timezone <zone>', description: 'of a schedule: Europe/Berlin (default: UTC)' },
    {
      flags: '--webhook <scheme>',
      description: 'short for --type webhook: how the sender signs; none: anybody who knows the URL',
      choices: WEBHOOK_SCHEMES,
    },
    { flags: '--secret <name>', description: 'with --webhook: the secret that it is signed with (fn secret set)', completes: 'secret' },
    { flags: '--url <url>', description: 'of the broker: redis://…, amqp://…, nats://…, mqtt://…' },
    {
      flags: '--set <field=value>',
      description: 'any field: stream=orders, batchSize=10, retry.max=5m, filter={"data":…}',
      repeatable: true,
    },
    { flags: '--as <name>', description: 'name of the trigger (default: its type, with a number where there is one)' },
    { flags: '--replace', description: 'replace the trigger of this name (default: its type)' },
    NAMESPACE_OPTION,
    CONTEXT_OPTION,
    HOME_OPTION,
    JSON_OPTION,
  ],
  examples: [
    "fn trigger add report --cron '0 7 * * 1-5' --timezone Europe/Berlin",
    'fn trigger add orders --type redis-stream --url redis://localhost:6379 --set stream=orders --set batchSize=10',
    'fn trigger add deploys --webhook github --secret GITHUB_SECRET',
  ],
  run,
};

async function run(ctx: Context, input: Input): Promise<void> {
  const [{ connect }, { chosenNamespace }, { triggerFrom }, { renderTrigger }] = await Promise.all([
    import('../client.ts'),
    import('../names.ts'),
    import('../trigger-input.ts'),
    import('../trigger-view.ts'),
  ]);
  const client = connect(ctx);
  const { events } = client;
  const namespace = chosenNamespace(ctx, input);
  const name = input.arg(0);
  // What is wrong on the command line is told before anything is asked.
  triggerFrom(input, []);
  const there = (await events.triggers(namespace, name)).map(({ trigger }) => trigger.name);
  const trigger = triggerFrom(input, there);
  const isThere = there.includes(trigger.name);
  await (await import('../declared.ts')).warnIfDeclared(ctx, client, namespace, name);
  const view = await events.putTrigger(namespace, name, trigger);
  say(ctx, `${isThere ? 'Replaced' : 'Added'} the trigger ${trigger.name} of ${name}.`);
  if (input.flag('json')) printJson(ctx, view);
  else ctx.stdout.write(renderTrigger(view, Date.now()));
}
