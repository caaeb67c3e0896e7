/** The CLI's entry: parses, runs, and turns what was thrown into words and an exit code. */
import { resolve } from 'node:path';
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import type { CommandSpec, OptionSpec } from './command.ts';
import { Input } from './command.ts';
import { COMMANDS, GROUPS } from './commands/index.ts';
import type { Context } from './context.ts';
import { painter, processContext } from './context.ts';
import type { ExitCode } from './errors.ts';
import { CliError, EXIT, renderError, toCliError } from './errors.ts';
import { version } from './version.ts';

/** Runs one command line; `argv` is what follows the program's name. Returns the exit code. */
export async function main(argv: readonly string[], ctx: Context): Promise<ExitCode> {
  let exitCode: ExitCode = EXIT.ok;
  const program = buildProgram(ctx, (code) => {
    exitCode = code;
  });
  try {
    await program.parseAsync([...argv], { from: 'user' });
    return exitCode;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
    if (ctx.signal.aborted && !(error instanceof CliError)) return EXIT.interrupted;
    const told = toCliError(error);
    ctx.stderr.write(renderError(told, painter(ctx.stderr, ctx.env)));
    return told.exitCode;
  }
}

/** The parser, made from the commands' data. */
export function buildProgram(ctx: Context, setExitCode: (code: ExitCode) => void): Command {
  const program = new Command('fn')
    .description('A serverless function platform on containers.')
    .version(version(), '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print help')
    .showHelpAfterError('(fn --help lists all commands and options)')
    .addHelpText('after', '\nTo begin:\n  fn demo\n  fn up --detach && fn deploy ./handler.ts');
  settle(program, ctx);
  const groups = new Map<string, Command>();
  for (const spec of COMMANDS) {
    const [first, second] = spec.name.split(' ') as [string, string | undefined];
    let parent = program;
    if (second !== undefined) {
      parent = groups.get(first) ?? program.command(first).description(GROUPS[first] ?? '');
      settle(parent, ctx);
      groups.set(first, parent);
    }
    addCommand(parent, second ?? first, spec, ctx, setExitCode);
  }
  return program;
}

/** Throws rather than exits, and writes where the context says. */
function settle(command: Command, ctx: Context): void {
  command.exitOverride().configureOutput({
    writeOut: (text) => void ctx.stdout.write(text),
    writeErr: (text) => void ctx.stderr.write(text),
    outputError: (text, write) => write(text.replace(/^error:/, painter(ctx.stderr, ctx.env)('red', 'error:'))),
  });
}

function addCommand(parent: Command, name: string, spec: CommandSpec, ctx: Context, setExitCode: (code: ExitCode) => void): void {
  const command = parent.command(name).description(spec.summary);
  settle(command, ctx);
  command.showHelpAfterError(`(fn ${spec.name} --help says more)`);
  for (const { name: arg, description, optional, variadic } of spec.args ?? []) {
    const text = variadic ? `${arg}...` : arg;
    command.argument(optional ? `[${text}]` : `<${text}>`, description);
  }
  for (const option of spec.options ?? []) command.addOption(toOption(option));
  if (spec.examples) command.addHelpText('after', `\nExamples:\n${spec.examples.map((example) => `  ${example}`).join('\n')}`);
  command.action(async (...received: unknown[]) => {
    const options = command.opts();
    // What a variadic argument takes comes as one list.
    const args = received
      .slice(0, spec.args?.length ?? 0)
      .flatMap((value) => (Array.isArray(value) ? value.map(String) : [value === undefined ? undefined : String(value)]));
    const home = typeof options.home === 'string' ? resolve(ctx.cwd, options.home) : ctx.home;
    const context = typeof options.context === 'string' ? options.context : undefined;
    const said = { context, home: typeof options.home === 'string' };
    const code = await spec.run({ ...ctx, home, said }, new Input(args, options));
    setExitCode(code ?? EXIT.ok);
  });
}

function toOption({ flags, description, parse, repeatable, choices, default: initial }: OptionSpec): Option {
  const option = new Option(flags, description);
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

/** How long a command may take to end after Ctrl-C, unless it asks for more. */
const DEFAULT_PATIENCE_MS = 1_000;

/** Ctrl-C aborts what runs; the second one, or the end of patience, ends the process whatever it does. */
function interruptible(): Pick<Context, 'signal' | 'patience'> {
  const controller = new AbortController();
  let patienceMs = DEFAULT_PATIENCE_MS;
  process.on('SIGINT', () => {
    if (controller.signal.aborted) process.exit(EXIT.interrupted);
    controller.abort(new CliError('interrupted', { exitCode: EXIT.interrupted }));
    setTimeout(() => process.exit(EXIT.interrupted), patienceMs).unref();
  });
  return {
    signal: controller.signal,
    patience: (ms) => {
      patienceMs = ms;
    },
  };
}

if (import.meta.main) {
  // `fn logs | head` closes our stdout: that is no error.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? EXIT.ok : EXIT.failed));
  process.exitCode = await main(process.argv.slice(2), processContext(interruptible()));
}
