/** A trigger that was typed in pieces, read by the schema of fn.yaml: a value means the same in both places. */
import { ManifestTriggers } from '#contract/manifest-events.ts';
import { Trigger } from '#contract/trigger.ts';
import { checkSchedule } from '#kit/schedule.ts';
import type { Input } from './command.ts';
import { CliError, EXIT, usageError } from './errors.ts';
import { plainIssues } from './manifest/issues.ts';

const OPTIONS = {
  type: '--type',
  cron: '--cron',
  timezone: '--timezone',
  webhook: '--webhook',
  secret: '--secret',
  url: '--url',
  name: '--as',
} as const;

/** `there`: names of the triggers that the function has. Throws CliError (exit code 2) for all that is wrong. */
export function triggerFrom(input: Input, there: readonly string[]): Trigger {
  const given: Record<string, unknown> = {};
  for (const [field, flag] of Object.entries(OPTIONS)) {
    const text = input.text(flag.slice(2));
    if (text !== undefined) given[field] = text;
  }
  for (const text of input.list('set')) set(given, text);
  const kinds = (['type', 'cron', 'webhook'] as const).filter((kind) => given[kind] !== undefined);
  if (kinds.length === 0)
    throw usageError(
      'say what triggers it: --type TYPE, --cron SCHEDULE or --webhook SCHEME',
      'docs/triggers.md has the types and their fields.',
    );
  if (kinds.length > 1) throw usageError(`give one of ${kinds.map((kind) => OPTIONS[kind]).join(' and ')}: each says what triggers it`);
  if (given.webhook !== undefined) checkSecret(given);
  // Who replaces without saying what means the one that has its name from its type.
  if (input.flag('replace')) given.name ??= given.type ?? (given.cron === undefined ? 'webhook' : 'cron');
  const { name } = given;
  if (typeof name === 'string' && there.includes(name) && !input.flag('replace'))
    throw usageError(`there is a trigger ${name} already`, 'Give another name with --as; or --replace.');
  // Those that are there take their names, and this one what is left.
  const others = there.filter((one) => one !== name).map((one) => ({ type: 'cron', schedule: '@yearly', name: one }));
  const parsed = ManifestTriggers.safeParse([...others, given]);
  if (!parsed.success) {
    const details = plainIssues(parsed.error.issues).map(({ path, message }) => {
      const label = labelOf(path.slice(1));
      const asJson = message === 'must be a list' && label.startsWith('--set') ? `, as JSON: --set '${path.slice(1).join('.')}=["…"]'` : '';
      return `${label}: ${message}${asJson}`;
    });
    throw new CliError('this trigger is not valid', {
      exitCode: EXIT.usage,
      details,
      hint: 'docs/triggers.md has the fields of each type.',
    });
  }
  const trigger = Trigger.parse(parsed.data.at(-1));
  const fault = trigger.type === 'cron' ? checkSchedule(trigger.schedule, trigger.timezone) : null;
  if (fault === null) return trigger;
  const field = fault.field === 'schedule' && given.cron !== undefined ? 'cron' : fault.field;
  throw usageError(`${labelOf([field])}: ${fault.detail}`, "Such as --cron '0 7 * * 1-5' --timezone Europe/Berlin.");
}

/** What a webhook is signed with is said where it is signed, and only there. Of `none`, what fn.yaml writes as `verify: none`. */
function checkSecret(given: Record<string, unknown>): void {
  const { webhook, secret, verify } = given;
  if (webhook !== 'none') {
    if (secret === undefined)
      throw usageError(`--secret: is missing: the name of the secret that ${String(webhook)} signs with`, 'fn secret set NAME stores it.');
    return;
  }
  if (secret !== undefined)
    throw usageError('--secret: --webhook none checks no signature', 'Leave it out, or name the scheme of the sender.');
  if (verify !== undefined)
    throw usageError('--webhook none and --set verify both say how the sender shows who he is', 'Keep one of them.');
  Reflect.deleteProperty(given, 'webhook');
  Object.assign(given, { type: 'webhook', verify: 'none' });
}

/** `--url` for what has an option, else `--set url`; without a path it is the trigger. */
function labelOf(path: readonly (string | number)[]): string {
  const [first] = path;
  if (first === undefined) return 'the trigger';
  const option = Object.entries(OPTIONS).find(([field]) => field === first)?.[1];
  return option ?? `--set ${path.join('.')}`;
}

/** `retry.max=5m`; a value that is JSON is what it says, any other is text. */
function set(given: Record<string, unknown>, text: string): void {
  const at = text.indexOf('=');
  if (at < 1) throw usageError(`--set ${JSON.stringify(text)} is not FIELD=VALUE`);
  const path = text.slice(0, at).split('.');
  if (path.some((part) => !/^[A-Za-z][A-Za-z0-9]*$/.test(part))) throw usageError(`--set ${JSON.stringify(text)}: this cannot be a field`);
  let holder = given;
  for (const part of path.slice(0, -1)) {
    const inner = holder[part] ?? {};
    if (typeof inner !== 'object' || inner === null || Array.isArray(inner))
      throw usageError(`--set ${JSON.stringify(text)}: ${part} has a value already`);
    holder = holder[part] = { ...inner };
  }
  holder[path.at(-1)!] = valueOf(text.slice(at + 1));
}

function valueOf(text: string): unknown {
  // Digits that are no number as JSON writes it (007, 1e999) are names, say of a list.
  if (!/^(?:[[{"]|true$|false$|null$|-?(?:0|[1-9]\d*)(?:\.\d+)?$)/.test(text)) return text;
  try {
    return JSON.parse(text);
  } catch {
    // What only begins as JSON does is text.
    return text;
  }
}
