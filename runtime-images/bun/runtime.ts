/** The image of the runtime `bun`: Bun, from its package of npm, and node's shim with Bun's own parts. */
import { readFileSync } from 'node:fs';
import { INSTANCE_UID } from '../builder/definition.ts';
import { npmProgram } from '../builder/programs.ts';
import { COMMON, type RuntimeDefinition } from '../builder/runtime.ts';

const VERSION = '1.4.5';

const X64 = {
  name: '@oven/bun-linux-x64',
  integrity: 'sha512-IWX9BELoGHAUtMonkeSaNaZwXzRk+oDw6Mk+HBFXd3KHYIBNBsIGRupMZPcgNoDbJpLu6gAJjIoIVPZtt1aJ1g==',
};
/** For CPUs without AVX2, on which the other one ends with SIGILL. */
const X64_BASELINE = {
  name: '@oven/bun-linux-x64-baseline',
  integrity: 'sha512-s8yMwYcFnnrA178gji0gZbkE2WVDej/Ti1x770oPfihxyRxSMNhGhiAQNXV53aDeraZxksdvKV/RAdQBCd0qPA==',
};
const ARM64 = {
  name: '@oven/bun-linux-aarch64',
  integrity: 'sha512-4BXmsSKnjOrlGWqZV4x/oWa7AVoR+B6lCXddMzOAXBIm3t50eslg9wb66gmtW1AamEQ1l1CDvmmruysEhqOWMg==',
};

export const bun: RuntimeDefinition = {
  ...COMMON,
  name: 'bun',
  title: 'its root file system, Bun, the shim',
  shim: ['../bun', '../node/shim'],
  shimExtensions: ['.mjs'],
  config: {
    User: `${INSTANCE_UID}:${INSTANCE_UID}`,
    Env: ['PATH=/usr/local/bin', 'HOME=/tmp', 'LANG=C.UTF-8', 'NODE_ENV=production', 'DO_NOT_TRACK=1'],
    Entrypoint: ['/usr/local/bin/bun'],
    Cmd: ['--no-install', '/fn/bun/shim.mjs'],
    WorkingDir: '/tmp',
    StopSignal: 'SIGTERM',
  },
  version: () => VERSION,
  programs: () => [
    npmProgram({
      target: 'usr/local/bin/bun',
      version: VERSION,
      packages: { x64: hasAvx2() ? X64 : X64_BASELINE, arm64: ARM64 },
      file: 'bin/bun',
    }),
  ],
};

/** Of this machine, which is the one that runs the image. */
function hasAvx2(): boolean {
  try {
    return /^flags\s*:.*\bavx2\b/m.test(readFileSync('/proc/cpuinfo', 'utf8'));
  } catch {
    return false; // nobody knows: the one that runs everywhere
  }
}
