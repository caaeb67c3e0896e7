/** All commands, in the order that the help lists them. */
import type { CommandSpec } from '../command.ts';
import { CONTEXT_OPTION } from '../command.ts';
import { audit } from './audit.ts';
import { calls } from './calls.ts';
import { completion } from './completion.ts';
import { contextDelete, contextList, contextShow, contextUse } from './context.ts';
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
import { login } from './login.ts';
import { logs } from './logs.ts';
import { namespaceDelete } from './namespace-delete.ts';
import { namespaceList } from './namespace-list.ts';
import { namespaceSet } from './namespace-set.ts';
import { revisions } from './revisions.ts';
import { rollback } from './rollback.ts';
import { runtimesBuild } from './runtimes-build.ts';
import { runtimesList } from './runtimes-list.ts';
import { schema } from './schema.ts';
import { secretDelete } from './secret-delete.ts';
import { secretList } from './secret-list.ts';
import { secretSet } from './secret-set.ts';
import { status } from './status.ts';
import { tokenCreate } from './token-create.ts';
import { tokenList } from './token-list.ts';
import { tokenRevoke } from './token-revoke.ts';
import { traffic } from './traffic.ts';
import { up } from './up.ts';
import { version } from './version.ts';
import { whoami } from './whoami.ts';
import { why } from './why.ts';

/** What speaks to the control API can be told which. */
const remote = (spec: CommandSpec): CommandSpec => ({ ...spec, options: [...(spec.options ?? []), CONTEXT_OPTION] });

export const COMMANDS: readonly CommandSpec[] = [
  demo,
  init,
  dev,
  up,
  down,
  remote(status),
  remote(deploy),
  remote(diff),
  remote(invoke),
  remote(logs),
  remote(why),
  remote(calls),
  remote(list),
  remote(describe),
  remote(revisions),
  remote(rollback),
  remote(traffic),
  remote(deleteCommand),
  secretSet,
  secretList,
  secretDelete,
  tokenCreate,
  tokenList,
  tokenRevoke,
  namespaceSet,
  namespaceList,
  namespaceDelete,
  audit,
  login,
  whoami,
  contextList,
  contextUse,
  contextShow,
  contextDelete,
  runtimesBuild,
  remote(runtimesList),
  doctor,
  hostSetup,
  schema,
  completion,
  version,
];

/** What groups of commands are for. */
export const GROUPS: Readonly<Record<string, string>> = {
  runtimes: 'build and list runtime images',
  secret: 'set, list and delete secrets',
  token: 'make, list and revoke tokens',
  namespace: 'quotas and hosts of namespaces',
  context: 'platforms that you have logged in to',
};
