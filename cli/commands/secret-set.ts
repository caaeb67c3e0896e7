import type { CommandSpec } from '../command.ts';
import { CONTEXT_OPTION, HOME_OPTION, JSON_OPTION, NAMESPACE_OPTION } from '../command.ts';

export const secretSet: CommandSpec = {
  name: 'secret set',
  summary: 'set a secret, from a prompt, stdin or a file',
  description: 'Never from the command line, where others can see it. Functions that use it get it at once.',
  args: [
    {
      name: 'name',
      description: 'name of the secret: the variable that functions find it in',
      optional: true,
      variadic: true,
      completes: 'secret',
    },
  ],
  options: [
    { flags: '--file <file>', description: 'take the value from a file, byte by byte', completes: 'file' },
    { flags: '--env-file <file>', description: 'set every NAME=VALUE of a file', completes: 'file' },
    NAMESPACE_OPTION,
    CONTEXT_OPTION,
    HOME_OPTION,
    JSON_OPTION,
  ],
  examples: [
    'fn secret set API_KEY    # asks for the value, without showing it',
    'fn secret set API_KEY < key.txt',
    'fn secret set TLS_KEY --file server.key',
    'fn secret set --env-file .env.production',
  ],
  run: async (ctx, input) => (await import('../secret-set.ts')).setSecrets(ctx, input),
};
