/** The image of the runtime `deno`: Deno, from its package of npm, and node's shim with Deno's own parts. */
import { INSTANCE_UID } from '../builder/definition.ts';
import { npmProgram } from '../builder/programs.ts';
import { COMMON, type RuntimeDefinition } from '../builder/runtime.ts';

const VERSION = '2.9.6';

export const deno: RuntimeDefinition = {
  ...COMMON,
  name: 'deno',
  title: 'its root file system, Deno, the shim',
  shim: ['../deno', '../node/shim'],
  shimExtensions: ['.mjs'],
  config: {
    User: `${INSTANCE_UID}:${INSTANCE_UID}`,
    Env: ['PATH=/usr/local/bin', 'HOME=/tmp', 'LANG=C.UTF-8', 'NODE_ENV=production', 'DENO_NO_UPDATE_CHECK=1', 'NO_COLOR=1'],
    Entrypoint: ['/usr/local/bin/deno'],
    Cmd: ['run', '--allow-all', '--deny-import', '--no-prompt', '--no-config', '--no-lock', '--cached-only', '/fn/deno/shim.mjs'],
    WorkingDir: '/tmp',
    StopSignal: 'SIGTERM',
  },
  version: () => VERSION,
  programs: () => [
    npmProgram({
      target: 'usr/local/bin/deno',
      version: VERSION,
      packages: {
        x64: {
          name: '@deno/linux-x64-glibc',
          integrity: 'sha512-3md4TKLCuzsLDmfOoC5KN7NAZaxSVkMgm64vg6foD00JBADCpYS2/5QqXfzgnP5ZQz3iLP9vBQJtEgc116OAoQ==',
        },
      },
      file: 'deno',
    }),
  ],
};
