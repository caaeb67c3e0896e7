import type { NamespaceSettings, NamespaceSettingsInput, Quota } from '#contract/tenancy.ts';
import type { ApiClient } from '../client.ts';
import type { CommandSpec, Input } from '../command.ts';
import { CONTEXT_OPTION, HOME_OPTION, JSON_OPTION } from '../command.ts';
import type { Context } from '../context.ts';
import { printJson, say } from '../context.ts';
import { CliError, EXIT, usageError } from '../errors.ts';
import { renderNamespaces } from './namespace-list.ts';

/** Options and the field of the quota that each sets. */
const LIMITS: Readonly<Record<string, keyof Quota>> = {
  maxFunctions: 'functions',
  maxMemory: 'memoryMib',
  maxConcurrency: 'concurrency',
  maxRps: 'requestsPerSecond',
  maxBundle: 'bundleBytes',
};

export const namespaceSet: CommandSpec = {
  name: 'namespace set',
  summary: 'make a namespace, or change its quota, hosts, networks',
  description: 'What is not named stays as it is.',
  args: [{ name: 'name', description: 'name of the namespace', completes: 'namespace' }],
  options: [
    { flags: '--max-functions <n>', description: 'most functions; none: no limit, as for all of these' },
    { flags: '--max-memory <mib>', description: 'most memory of its instances together, MiB' },
    { flags: '--max-concurrency <n>', description: 'most requests at a time' },
    { flags: '--max-rps <n>', description: 'most requests a second' },
    { flags: '--max-bundle <bytes>', description: 'largest bundle as uploaded, bytes' },
    { flags: '--host <host>', description: 'a host that its routes may have; several times for all of them', repeatable: true },
    { flags: '--no-hosts', description: 'take all its hosts away' },
    {
      flags: '--networks <cidrs>',
      description: 'networks that its triggers may dial beside public ones: 10.1.2.0/24,…; none; default',
    },
    CONTEXT_OPTION,
    HOME_OPTION,
    JSON_OPTION,
  ],
  examples: [
    'fn namespace set shop --max-functions 20 --max-memory 4096 --host shop.example.com',
    'fn namespace set shop --max-rps none --networks 10.1.2.0/24',
  ],
  run,
};

async function run(ctx: Context, input: Input): Promise<void> {
  const [{ connect }, { checkedNamespace }, { NamespaceSettings, NO_QUOTA }] = await Promise.all([
    import('../client.ts'),
    import('../names.ts'),
    import('#contract/tenancy.ts'),
  ]);
  const name = checkedNamespace(input.arg(0));
  const client = connect(ctx);
  const before = (await settingsOf(client, name)) ?? { quota: NO_QUOTA, hosts: [], networks: null };
  const quota = { ...before.quota };
  for (const [option, field] of Object.entries(LIMITS)) {
    const text = input.text(option);
    if (text !== undefined) quota[field] = limitOf(text, option);
  }
  // Commander says `hosts: false` for --no-hosts.
  const hosts = input.isOff('hosts') ? [] : input.list('host').length > 0 ? input.list('host') : before.hosts;
  const networks = networksFrom(input.text('networks'), before.networks);
  const settings: NamespaceSettingsInput = { quota, hosts, networks };
  const checked = NamespaceSettings.safeParse(settings);
  if (!checked.success) {
    const details = checked.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`);
    throw new CliError('these settings are not valid', {
      exitCode: EXIT.usage,
      details,
      hint: 'fn namespace set --help lists the options.',
    });
  }
  const view = await client.putNamespace(name, settings);
  say(ctx, `Set the namespace ${name}.`);
  if (input.flag('json')) printJson(ctx, view);
  else ctx.stdout.write(renderNamespaces([view]));
}

/** As it is now; null where it is not there yet. */
async function settingsOf(client: ApiClient, name: string): Promise<Pick<NamespaceSettings, 'quota' | 'hosts' | 'networks'> | null> {
  try {
    return await client.namespace(name);
  } catch (error) {
    if (error instanceof CliError && error.code === 'namespace-not-found') return null;
    throw error;
  }
}

/** `default`: what a namespace has of which nobody said anything (null). */
function networksFrom(text: string | undefined, before: string[] | null): string[] | null {
  if (text === undefined) return before;
  if (text === 'default') return null;
  if (text === 'none') return [];
  return text
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '');
}

function limitOf(text: string, option: string): number | null {
  if (text === 'none') return null;
  const value = Number(text);
  const flag = `--${option.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
  if (text.trim() === '' || !Number.isFinite(value) || value < 0)
    throw usageError(`${flag} ${JSON.stringify(text)} is neither a number from 0 nor none`);
  return value;
}
