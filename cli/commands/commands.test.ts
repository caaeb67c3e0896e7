/** Rules that hold for every command, so that who knows one knows the others. */
import { describe, expect, it } from 'vitest';
import { runCli } from '../../test/helpers/cli.ts';
import type { CommandSpec, OptionSpec } from '../command.ts';
import { CONTEXT_OPTION, HOME_OPTION, JSON_OPTION, NAMESPACE_OPTION, readFlags } from '../command.ts';
import { processContext } from '../context.ts';
import { buildProgram } from '../program.ts';
import { COMMANDS, COMMAND_GROUPS, GROUPS, HIDDEN_COMMANDS } from './index.ts';

const ALL = [...COMMANDS, ...HIDDEN_COMMANDS].map((spec) => ({ name: spec.name, spec }));
const has = ({ options = [] }: CommandSpec, option: OptionSpec) => options.some(({ flags }) => flags === option.flags);

/** What speaks to the control API is in these groups, or has one of these names. */
const LOCAL = new Set([
  'render',
  'demo',
  'init',
  'dev',
  'up',
  'down',
  'runtimes build',
  'images build',
  'images list',
  'images save',
  'images push',
  'doctor',
  'host-setup',
  'completion',
  'schema',
  'version',
  'complete',
]);
const speaksToTheApi = ({ name }: CommandSpec) => !LOCAL.has(name) && !name.startsWith('context ');
/** The platform's, not a namespace's. */
const OF_THE_PLATFORM = /^(?:status|whoami|runtimes list|namespace .*|token list|token revoke)$/;
/** No JSON: a script for a shell, JSON as it is, a session at a terminal, lines for a shell. */
const WITHOUT_JSON = new Set(['render', 'completion', 'schema', 'dev', 'complete']);

/** One letter, or one name, that means two things, each with its reason. */
const TWO_MEANINGS: Readonly<Record<string, string>> = {
  '-d': 'curl has it for --data, docker compose for --detach; nobody would find another',
  '--host': 'an address to listen on for up and dev, a host of HTTP for a namespace',
};

describe.each(ALL)('fn $name', ({ spec }) => {
  it('says what it does in one line, and each argument and option what it is', () => {
    expect(spec.summary).toMatch(/^[a-z][^\n]*[^.]$/);
    expect(spec.summary.length).toBeLessThanOrEqual(60);
    for (const { description } of [...(spec.args ?? []), ...(spec.options ?? [])]) expect(description).toMatch(/^\S[^\n]*[^.\s]$/);
  });

  it('has the options that all like it have', () => {
    expect({ context: has(spec, CONTEXT_OPTION), home: has(spec, HOME_OPTION) || LOCAL.has(spec.name) || spec.name === 'login' }).toEqual({
      context: speaksToTheApi(spec) || spec.name === 'context show',
      home: speaksToTheApi(spec) || LOCAL.has(spec.name),
    });
    // What is rendered says which namespace it is for, and nobody is asked.
    const inNamespace = speaksToTheApi(spec) && !OF_THE_PLATFORM.test(spec.name);
    expect(has(spec, NAMESPACE_OPTION)).toBe(inNamespace || spec.name === 'render');
    expect(has(spec, JSON_OPTION)).toBe(!WITHOUT_JSON.has(spec.name));
  });

  it('has two examples and more, which its own parser understands', async () => {
    expect(spec.examples?.length).toBeGreaterThanOrEqual(2);
    for (const example of spec.examples ?? []) expect(await understoodAs(example)).toBe(spec.name);
  });
});

/** The command that a line of a shell is understood as; throws where the parser refuses it. */
async function understoodAs(example: string): Promise<string> {
  const said: string[] = [];
  const ctx = {
    ...processContext({ signal: new AbortController().signal, patience: () => {} }),
    stderr: { write: (text: string) => said.push(text) },
  };
  let name = '';
  const program = buildProgram(ctx, async (spec) => {
    name = spec.name;
  });
  // What stands before fn, the redirections and what follows belong to the shell.
  const [, line = ''] = /(?:^|\s|\()fn ([^)]*?)(?:\)|\s+(?:#|>|<|\||&&|2>)|$)/.exec(example) ?? [];
  const words = [...line.matchAll(/'([^']*)'|"([^"]*)"|(\S+)/g)].map(([, single, double, plain]) => single ?? double ?? plain ?? '');
  await program.parseAsync(words, { from: 'user' }).catch((error: unknown) => {
    throw new Error(`${example}: ${said.join('')}${String(error)}`);
  });
  return name;
}

describe('all commands together', () => {
  it('no flag has two meanings', () => {
    const meanings = new Map<string, Set<string>>();
    const add = (flag: string, meaning: string) => meanings.set(flag, (meanings.get(flag) ?? new Set()).add(meaning));
    for (const { options = [] } of COMMANDS)
      for (const { flags } of options) {
        const { short, long } = readFlags(flags);
        add(long, flags);
        if (short !== undefined) add(short, long);
      }
    const several = [...meanings].filter(([, all]) => all.size > 1).map(([flag]) => flag);
    expect(several.toSorted()).toEqual(Object.keys(TWO_MEANINGS).toSorted());
  });

  it('no name is there twice, and every group says what it is for', () => {
    const names = ALL.map(({ name }) => name);
    expect(new Set(names).size).toBe(names.length);
    const groups = new Set(names.filter((name) => name.includes(' ')).map((name) => name.split(' ')[0]));
    expect([...groups].toSorted()).toEqual(Object.keys(GROUPS).toSorted());
    for (const summary of Object.values(GROUPS)) expect(summary.length).toBeLessThanOrEqual(60);
    expect(COMMANDS).toHaveLength(Object.values(COMMAND_GROUPS).flat().length);
  });
});

describe('help', () => {
  it('of fn: a line for each command at 100 columns', async () => {
    const { stdout } = await runCli(['--help'], { tty: true, columns: 100 });
    expect(stdout).toMatchSnapshot();
    const entries = stdout.split('\n').filter((line) => line.startsWith('  ') && !line.startsWith('   '));
    for (const line of entries) expect(line).toMatch(/^ {2}\S/);
    expect(stdout.split('\n').filter((line) => line.startsWith('    '))).toEqual([]);
    expect(stdout.split('\n').every((line) => line.length <= 100)).toBe(true);
  });

  it.each([...Object.keys(GROUPS), ...COMMANDS.map(({ name }) => name)])('of fn %s', async (name) => {
    const { code, stdout, stderr } = await runCli([...name.split(' '), '--help'], { env: {} });
    expect([code, stderr]).toEqual([0, '']);
    expect(stdout).toMatchSnapshot();
  });

  it.each([
    [['deplyo'], "unknown command 'deplyo'\n(Did you mean deploy?)"],
    [['secret', 'lisst'], "unknown command 'lisst'\n(Did you mean list?)"],
    [['deploy', '--memroy', '64'], "unknown option '--memroy'\n(Did you mean --memory?)"],
    [['logs'], "missing required argument 'name'"],
    [['completion', 'tcsh'], 'Allowed choices are bash, zsh, fish.'],
  ])('%j is told what was meant', async (argv, words) => {
    const { code, stdout, stderr } = await runCli(argv);
    expect([code, stdout]).toEqual([2, '']);
    expect(stderr).toContain(words);
    expect(stderr).toMatch(/\(fn .*--help .*\)/);
  });

  it('what is called ls and rm elsewhere is so here', async () => {
    for (const argv of [['ls'], ['rm', 'hello'], ['secret', 'ls'], ['token', 'ls']]) expect((await runCli(argv)).code).toBe(4);
  });
});
