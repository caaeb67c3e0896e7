/** All commands, in the order that the help lists them. */
import type { CommandSpec } from '../command.ts';
import { calls } from './calls.ts';
import { completion } from './completion.ts';
import { deleteCommand } from './delete.ts';
import { demo } from './demo.ts';
import { deploy } from './deploy.ts';
import { describe } from './describe.ts';
import { dev } from './dev.ts';
import { diff } from './diff.ts';
import { doctor } from './doctor.ts';
import { down } from './down.ts';
import { hostSetup } from './host-setup.ts';
import { init } from './init.ts';
import { invoke } from './invoke.ts';
import { list } from './list.ts';
import { logs } from './logs.ts';
import { revisions } from './revisions.ts';
import { rollback } from './rollback.ts';
import { runtimesBuild } from './runtimes-build.ts';
import { runtimesList } from './runtimes-list.ts';
import { schema } from './schema.ts';
import { status } from './status.ts';
import { traffic } from './traffic.ts';
import { up } from './up.ts';
import { version } from './version.ts';
import { why } from './why.ts';

export const COMMANDS: readonly CommandSpec[] = [
  demo,
  init,
  dev,
  up,
  down,
  status,
  deploy,
  diff,
  invoke,
  logs,
  why,
  calls,
  list,
  describe,
  revisions,
  rollback,
  traffic,
  deleteCommand,
  runtimesBuild,
  runtimesList,
  doctor,
  hostSetup,
  schema,
  completion,
  version,
];

/** What groups of commands are for. */
export const GROUPS: Readonly<Record<string, string>> = { runtimes: 'build and list runtime images' };
