/** The parser and its help, made from the commands' data. */
import { resolve } from 'node:path';
import { Argument, Command, type Help, InvalidArgumentError, Option } from 'commander';
import type { CommandSpec, OptionSpec } from './command.ts';
import { Input, readFlags } from './command.ts';
import { COMMAND_GROUPS, GROUPS, HIDDEN_COMMANDS } from './commands/index.ts';
import type { Context } from './context.ts';
import { painter } from './context.ts';
import { CliError } from './errors.ts';
import { version } from './version.ts';

/** What becomes of a command line that was understood. */
export type Execute = (spec: CommandSpec, ctx: Context, input: Input) => Promise<void>;

/** Options that mean the same wherever they are, in the order that each help has them. */
const COMMON_OPTIONS = ['--namespace', '--context', '--home', '--yes', '--json'];
const COMMON_HEADING = 'Common options:';

/** What a `list` and a `delete` are called elsewhere. */
const ALIASES: Readonly<Record<string, string>> = { list: 'ls', delete: 'rm' };

/** The other names of a command, by its last word. */
export function aliasOf(spec: CommandSpec): string | undefined {
  return ALIASES[spec.name.split(' ').at(-1)!];
}

/** The parser of all commands. */
export function buildProgram(ctx: Context, execute: Execute): Command {
  const program = new Command('fn')
    .description('A serverless function platform on containers.')
    .version(version(), '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print help')
    .helpCommand(false)
    .showHelpAfterError('(fn --help lists all commands)')
    .usage('COMMAND [options]')
    .addHelpText('after', '\nTo begin:\n  fn demo\n  fn up --detach && fn deploy ./handler.ts\n\nfn COMMAND --help says more of each.');
  settle(program, ctx);
  const groups = new Map<string, Command>();
  for (const [heading, specs] of [...Object.entries(COMMAND_GROUPS), ['', HIDDEN_COMMANDS] as const]) {
    for (const spec of specs) {
      const [first, second] = spec.name.split(' ') as [string, string | undefined];
      let parent = program;
      if (second !== undefined) {
        parent = groups.get(first) ?? addGroup(program, first, heading, ctx);
        groups.set(first, parent);
      }
      addCommand(parent, second ?? first, spec, ctx, execute).helpGroup(second === undefined ? `${heading}:` : 'Commands:');
    }
  }
  return program;
}

function addGroup(program: Command, name: string, heading: string, ctx: Context): Command {
  const group = program
    .command(name)
    .description(GROUPS[name] ?? '')
    .helpOption('-h, --help', 'print help')
    .helpCommand(false)
    .usage('COMMAND [options]')
    .showHelpAfterError(`(fn ${name} --help lists its commands)`)
    .helpGroup(`${heading}:`);
  settle(group, ctx);
  return group;
}

/** Throws rather than exits, and writes where the context says. */
function settle(command: Command, ctx: Context): void {
  command
    .exitOverride()
    .configureHelp({
      subcommandTerm: (sub: Command) => sub.name(),
      subcommandDescription: (sub: Command) => sub.summary() || sub.description(),
    } satisfies Partial<Help>)
    .configureOutput({
      writeOut: (text) => void ctx.stdout.write(text),
      writeErr: (text) => void ctx.stderr.write(text),
      getOutHelpWidth: () => ctx.stdout.columns ?? DEFAULT_HELP_WIDTH,
      getErrHelpWidth: () => ctx.stderr.columns ?? DEFAULT_HELP_WIDTH,
      getOutHasColors: () => false,
      getErrHasColors: () => false,
      outputError: (text, write) => write(text.replace(/^error:/, painter(ctx.stderr, ctx.env)('red', 'error:'))),
    });
}

/** Columns of help that goes to no terminal. */
const DEFAULT_HELP_WIDTH = 100;

function addCommand(parent: Command, name: string, spec: CommandSpec, ctx: Context, execute: Execute): Command {
  const command = parent
    .command(name, { hidden: spec.hidden === true })
    .summary(spec.summary)
    .description(sentence(spec.summary) + (spec.description === undefined ? '' : `\n${spec.description}`))
    .helpOption('-h, --help', 'print help');
  settle(command, ctx);
  const alias = aliasOf(spec);
  if (alias !== undefined) command.alias(alias);
  command.showHelpAfterError(`(fn ${spec.name} --help says more)`);
  for (const { name: arg, description, optional, variadic, choices } of spec.args ?? []) {
    const text = variadic ? `${arg}...` : arg;
    const argument = new Argument(optional ? `[${text}]` : `<${text}>`, description);
    command.addArgument(choices === undefined ? argument : argument.choices(choices));
  }
  for (const option of inOrder(spec.options ?? [])) command.addOption(toOption(option));
  if (spec.examples) command.addHelpText('after', `\nExamples:\n${spec.examples.map((example) => `  ${example}`).join('\n')}`);
  return command.action(async (...received: unknown[]) => {
    const options = command.opts();
    // What a variadic argument takes comes as one list.
    const args = received
      .slice(0, spec.args?.length ?? 0)
      .flatMap((value) => (Array.isArray(value) ? value.map(String) : [value === undefined ? undefined : String(value)]));
    const home = typeof options.home === 'string' ? resolve(ctx.cwd, options.home) : ctx.home;
    const context = typeof options.context === 'string' ? options.context : undefined;
    const said = { context, home: typeof options.home === 'string' };
    const typed = new Set(Object.keys(options).filter((name) => command.getOptionValueSource(name) === 'cli'));
    await execute(spec, { ...ctx, home, said }, new Input(args, options, typed));
  });
}

const sentence = (text: string): string => `${text.slice(0, 1).toUpperCase()}${text.slice(1)}.`;

/** A command's own options first, then those that all have. */
function inOrder(options: readonly OptionSpec[]): OptionSpec[] {
  const place = ({ flags }: OptionSpec) => COMMON_OPTIONS.indexOf(readFlags(flags).long);
  return options.toSorted((a, b) => place(a) - place(b));
}

function toOption({ flags, description, parse, repeatable, choices, default: initial }: OptionSpec): Option {
  const option = new Option(flags, description);
  if (COMMON_OPTIONS.includes(readFlags(flags).long)) option.helpGroup(COMMON_HEADING);
  if (initial !== undefined) option.default(initial);
  if (choices) option.choices(choices);
  if (parse || repeatable) {
    option.argParser((text: string, previous: unknown) => {
      const value = parse ? checked(parse, text) : text;
      if (!repeatable) return value;
      return Array.isArray(previous) ? [...(previous as unknown[]), value] : [value];
    });
  }
  return option;
}

/** Commander adds the option's name to what an InvalidArgumentError says. */
function checked(parse: (text: string) => unknown, text: string): unknown {
  try {
    return parse(text);
  } catch (error) {
    if (error instanceof CliError) throw new InvalidArgumentError(error.message);
    throw error;
  }
}
