import type { CommandSpec } from '../command.ts';
import { CONTEXT_OPTION, JSON_OPTION, NAMESPACE_OPTION } from '../command.ts';

export const login: CommandSpec = {
  name: 'login',
  summary: 'keep a token for a platform, and speak to that one',
  args: [{ name: 'url', description: 'of its control API, e.g. https://fn.example.com (default: that of the context)', optional: true }],
  options: [
    { ...CONTEXT_OPTION, description: 'name to keep it under (default: the host of the URL)' },
    { ...NAMESPACE_OPTION, description: 'namespace of commands that name none (default: that of the token, where it has one)' },
    {
      flags: '--gateway <url>',
      description: 'where `fn invoke` calls functions from here, such as a port that is forwarded (default: the platform’s URL)',
    },
    JSON_OPTION,
  ],
  examples: [
    'fn login https://fn.example.com    # asks for the token, without showing it',
    'fn login https://fn.example.com < token.txt',
    'fn login http://127.0.0.1:7070 --gateway http://127.0.0.1:8080 < token.txt',
  ],
  run: async (ctx, input) => (await import('../login.ts')).logIn(ctx, input),
};
