/** The options of `fn deploy` that make up a function's settings. */
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { parseEnv } from 'node:util';
import type { z } from 'zod';
import type { FunctionSettingsInput } from '#contract/function.ts';
import { CheckedFunctionSettings } from '#contract/function.ts';
import type { Input } from './command.ts';
import { CliError, EXIT, usageError } from './errors.ts';
import { fieldLabel } from './problems.ts';

/** Settings as typed, checked by the contract; what is left out is left to the defaults. Throws usageError. */
export function settingsFrom(input: Input, cwd: string): FunctionSettingsInput {
  const egress = input.text('egress');
  const env = { ...envFile(input.text('envFile'), cwd), ...Object.fromEntries(input.list('env').map(parseAssignment)) };
  const given: FunctionSettingsInput = {
    runtime: input.text('runtime'),
    memoryMib: input.number('memory'),
    cpu: input.number('cpu'),
    timeoutSeconds: input.number('timeout'),
    concurrency: input.number('concurrency'),
    min: input.number('min'),
    max: input.number('max'),
    keepAliveSeconds: input.number('keepAlive'),
    egress: egress === undefined ? undefined : parseEgress(egress),
    env: Object.keys(env).length === 0 ? undefined : env,
  };
  const settings = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)) as FunctionSettingsInput;
  const checked = CheckedFunctionSettings.safeParse(settings);
  if (checked.success) return settings;
  throw new CliError('these settings are not valid', {
    exitCode: EXIT.usage,
    details: [...new Map(checked.error.issues.toReversed().map((issue) => issueLine(issue, settings))).values()].toReversed(),
    hint: 'fn deploy --help lists what each option takes.',
  });
}

/**
 * Where it is and the line about it. For the key of a record, zod tells what is wrong with it one
 * level deeper; a network is named by what was typed, since nobody counts from 0.
 */
function issueLine(issue: z.core.$ZodIssue, { egress }: FunctionSettingsInput): [string, string] {
  const reason = issue.code === 'invalid_key' ? (issue.issues[0]?.message ?? issue.message) : issue.message;
  const [field, index] = issue.path;
  const network = field === 'egress' && Array.isArray(egress) && typeof index === 'number' ? egress[index] : undefined;
  const label = network === undefined ? fieldLabel(`/settings/${issue.path.join('/')}`) : `--egress ${JSON.stringify(network)}`;
  return [label, `${label}: ${reason}`];
}

/** `none`, `internet`, or networks between commas. */
function parseEgress(text: string): FunctionSettingsInput['egress'] {
  if (text === 'none' || text === 'internet') return text;
  return text
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '');
}

/** `K=V`; the value may hold more `=` and may be empty. */
function parseAssignment(text: string): [string, string] {
  const at = text.indexOf('=');
  if (at < 1) throw usageError(`--env ${JSON.stringify(text)} is not NAME=VALUE`);
  return [text.slice(0, at), text.slice(at + 1)];
}

/** A file of `NAME=VALUE` lines, as Node's --env-file reads it. */
function envFile(path: string | undefined, cwd: string): Record<string, string> {
  if (path === undefined) return {};
  const file = resolve(cwd, path);
  try {
    return { ...parseEnv(readFileSync(file, 'utf8')) } as Record<string, string>;
  } catch (error) {
    throw usageError(`--env-file ${file} cannot be read: ${error instanceof Error ? error.message : String(error)}`);
  }
}
