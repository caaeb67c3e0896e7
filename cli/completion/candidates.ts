/** What could stand in a place of a command line: names that the platform, a manifest or this machine knows. */
import type { ApiClient } from '../client.ts';
import type { ValueKind } from '../command.ts';
import { Input } from '../command.ts';
import { COMMANDS } from '../commands/index.ts';
import type { Context } from '../context.ts';
import { formatAge, formatMs } from '../output.ts';
import { fullNames } from './model.ts';
import { type Line, readLine } from './line.ts';

export interface Candidate {
  value: string;
  description?: string;
}

/** Calls that are offered: the newest. */
const MAX_CALLS = 30;

interface Surroundings {
  ctx: Context;
  line: Line;
  /** What the line says with -n, or what a command means that says none. */
  namespace(): Promise<string>;
  client(): Promise<ApiClient>;
}

const SOURCES: Readonly<Record<ValueKind, (at: Surroundings) => Promise<Candidate[]>>> = {
  async context({ ctx }) {
    const { readContexts } = await import('../contexts.ts');
    return Object.entries(readContexts(ctx).contexts).map(([value, { url }]) => ({ value, description: url }));
  },
  function: functions,
  async namespace({ client }) {
    return (await (await client()).namespaces()).map(({ name, usage }) => ({ value: name, description: `${usage.functions} functions` }));
  },
  async secret({ client, namespace }) {
    const secrets = await (await client()).secrets(await namespace());
    return secrets.map(({ name, version, usedBy }) => ({
      value: name,
      description: `version ${version}${usedBy.length === 0 ? '' : `, used by ${usedBy.join(', ')}`}`,
    }));
  },
  async token({ client }) {
    const tokens = await (await client()).tokens();
    return tokens
      .filter(({ revokedAt }) => revokedAt === null)
      .map(({ id, name, scopes }) => ({ value: id, description: `${name}: ${scopes.join(', ')}` }));
  },
  revision: revisions,
  async share(at) {
    const kept = await revisions(at);
    return [{ value: 'latest', description: 'the newest' }, ...kept].map(({ value, description }) => ({
      value: `${value}=`,
      ...(description === undefined ? {} : { description }),
    }));
  },
  async runtime() {
    const { RUNTIME_NAMES } = await import('../settings-options.ts');
    return RUNTIME_NAMES.map((value) => ({ value }));
  },
  async template() {
    const { templates } = await import('../init/templates.ts');
    return templates().map(({ name, summary }) => ({ value: name, description: summary }));
  },
  'dead-letter': deadLetters,
  invocation: invocations,
  trigger: triggers,
  'manifest-function': manifestFunctions,
  target: manifestFunctions,
  async call(at) {
    // `fn why --failed NAME`: not a call is named, but a function.
    if (['--last', '--failed', '--slow', '--cold'].some((flag) => at.line.options.has(flag))) return functions(at);
    const client = await at.client();
    const namespace = await at.namespace();
    const names = (await client.list(namespace)).map(({ name }) => name);
    const calls = (await Promise.all(names.map((name) => client.listCalls(namespace, name, { limit: MAX_CALLS })))).flat();
    return calls
      .toSorted((a, b) => b.t - a.t)
      .slice(0, MAX_CALLS)
      .map(({ id, name, method, path, status, totalMs }) => ({
        value: id,
        description: `${name}: ${method} ${path}, ${status} in ${formatMs(totalMs)}`,
      }));
  },
};

/** Dead letters and invocations that are offered: the newest. */
const MAX_EVENTS = 30;

async function deadLetters({ client, namespace, line }: Surroundings): Promise<Candidate[]> {
  const [name] = line.args;
  if (name === undefined) return [];
  const { deadLetters: found } = await (await client()).events.deadLetters(await namespace(), name, { limit: MAX_EVENTS });
  return found.map(({ id, reason, error }) => ({ value: id, description: `${reason}: ${error.code}` }));
}

async function invocations({ client, namespace, line }: Surroundings): Promise<Candidate[]> {
  const [name] = line.args;
  if (name === undefined) return [];
  const found = await (await client()).events.invocations(await namespace(), name, { limit: MAX_EVENTS });
  return found.map(({ id, state, createdAt }) => ({
    value: id,
    description: `${state}, ${formatAge(Math.max(0, Date.now() - createdAt) / 1_000)} old`,
  }));
}

async function triggers({ client, namespace, line }: Surroundings): Promise<Candidate[]> {
  const [name] = line.args;
  const found = await (await client()).events.triggers(await namespace(), name ?? null);
  return found.map(({ trigger, status }) => ({ value: trigger.name, description: `${trigger.type}, ${status.state}` }));
}

/** `words`: those before the one that is being typed, without the program's name. Throws where it cannot know. */
export async function candidates(kind: ValueKind, words: readonly string[], surroundings: Context): Promise<Candidate[]> {
  const line = readLine(words, COMMANDS, fullNames(COMMANDS));
  const context = textOf(line, '--context');
  const home = textOf(line, '--home');
  const { resolve } = await import('node:path');
  const ctx = {
    ...surroundings,
    home: home === undefined ? surroundings.home : resolve(surroundings.cwd, home),
    said: { context, home: home !== undefined },
  };
  return SOURCES[kind]({
    ctx,
    line,
    async namespace() {
      const { chosenNamespace } = await import('../names.ts');
      return chosenNamespace(ctx, new Input([], { namespace: textOf(line, '--namespace') }));
    },
    async client() {
      const { connect } = await import('../client.ts');
      return connect(ctx);
    },
  });
}

function textOf({ options }: Line, flag: string): string | undefined {
  const value = options.get(flag);
  return value === true || value === '' ? undefined : value;
}

async function functions({ client, namespace }: Surroundings): Promise<Candidate[]> {
  const found = await (await client()).list(await namespace());
  return found.map(({ name, traffic, revision }) => ({
    value: name,
    description: `${revision.settings.runtime}, revision ${traffic.map((target) => target.revision).join(' and ')}`,
  }));
}

async function revisions({ client, namespace, line }: Surroundings): Promise<Candidate[]> {
  const [name] = line.args;
  if (name === undefined) return [];
  const kept = await (await client()).revisions(await namespace(), name);
  return kept.map(({ number, percent, createdAt, message }) => ({
    value: String(number),
    description: [
      `${percent}%`,
      `${formatAge(Math.max(0, Date.now() - createdAt) / 1_000)} old`,
      ...(message === undefined ? [] : [message]),
    ].join(', '),
  }));
}

async function manifestFunctions({ ctx, line }: Surroundings): Promise<Candidate[]> {
  const { findManifest, readManifest } = await import('../manifest/file.ts');
  const { resolve } = await import('node:path');
  const said = textOf(line, '--file');
  const path = said === undefined ? findManifest(ctx.cwd) : resolve(ctx.cwd, said);
  if (path === null) return [];
  const manifest = readManifest(path, ctx.cwd);
  return Object.keys(manifest.manifest.functions).map((value) => ({ value, description: `of ${path.slice(path.lastIndexOf('/') + 1)}` }));
}
