/** The CLI's entry: parses, runs, and turns what was thrown into words and an exit code. */
import { CommanderError } from 'commander';
import type { Context } from './context.ts';
import { painter, processContext } from './context.ts';
import type { ExitCode } from './errors.ts';
import { CliError, EXIT, renderError, toCliError } from './errors.ts';
import { buildProgram } from './program.ts';

/** Runs one command line; `argv` is what follows the program's name. Returns the exit code. */
export async function main(argv: readonly string[], ctx: Context): Promise<ExitCode> {
  let exitCode: ExitCode = EXIT.ok;
  const program = buildProgram(ctx, async (spec, surroundings, input) => {
    exitCode = (await spec.run(surroundings, input)) ?? EXIT.ok;
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
