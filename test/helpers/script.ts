/** What the scripts behind `npm run` have in common: arguments that are wrong get one sentence and exit code 2, not a stack trace. */
import { parseArgs, type ParseArgsConfig } from 'node:util';

const USAGE_EXIT = 2;

/** Ends the process with what is wrong, and how to call it. */
export function misused(wrong: string, usage: string): never {
  process.stderr.write(`error: ${wrong}\n  → ${usage}\n`);
  process.exit(USAGE_EXIT);
}

/** `parseArgs` of node:util; `--help` prints the usage and exits 0. */
export function scriptArgs<Config extends ParseArgsConfig>(usage: string, config: Config): ReturnType<typeof parseArgs<Config>> {
  if (process.argv.slice(2).some((arg) => arg === '--help' || arg === '-h')) {
    process.stdout.write(`${usage}\n`);
    process.exit(0);
  }
  try {
    return parseArgs(config);
  } catch (error) {
    if (!(error instanceof TypeError && 'code' in error && String(error.code).startsWith('ERR_PARSE_ARGS_'))) throw error;
    // What follows the first sentence is advice for a shell that npm has taken apart already.
    misused(error.message.split('. ')[0]!, usage);
  }
}
