/** The image of the runtime `node`: Node itself, and the shim. */
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { INSTANCE_UID } from '../builder/definition.ts';
import { COMMON, type Program, type RuntimeDefinition } from '../builder/runtime.ts';

export const node: RuntimeDefinition = {
  ...COMMON,
  name: 'node',
  title: 'its root file system, Node, the shim',
  shim: ['shim.mjs', 'shim'],
  shimExtensions: ['.mjs'],
  config: {
    User: `${INSTANCE_UID}:${INSTANCE_UID}`,
    Env: ['PATH=/usr/local/bin', 'HOME=/tmp', 'LANG=C.UTF-8', 'NODE_ENV=production'],
    Entrypoint: ['/usr/local/bin/node'],
    Cmd: ['/fn/shim.mjs'],
    WorkingDir: '/tmp',
    StopSignal: 'SIGTERM',
  },
  version: (root) => nodeBinary(root).version,
  programs: (root) => [nodeProgram(root)],
};

/** Node, as every image has it that runs on it. */
export function nodeProgram(root: string): Program {
  const { path, version } = nodeBinary(root);
  return { target: 'usr/local/bin/node', identity: `node ${version}`, fetch: () => Promise.resolve(path) };
}

/** The binary of npm package `node` that belongs to this checkout; else the Node that runs this. */
function nodeBinary(root: string): { path: string; version: string } {
  const require = createRequire(join(root, 'build.ts'));
  try {
    const manifest = require.resolve('node/package.json');
    const { version } = JSON.parse(readFileSync(manifest, 'utf8')) as { version: string };
    const path = join(dirname(manifest), 'bin', 'node');
    if (existsSync(path)) return { path, version };
  } catch (error) {
    if (!(error instanceof Error) || !('code' in error) || error.code !== 'MODULE_NOT_FOUND') throw error;
  }
  return { path: process.execPath, version: process.versions.node };
}
