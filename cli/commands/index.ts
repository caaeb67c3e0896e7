/** All commands, in the order that the help lists them. */
import type { CommandSpec } from '../command.ts';
import { CONTEXT_OPTION } from '../command.ts';
import { audit } from './audit.ts';
import { calls } from './calls.ts';
import { complete } from './complete.ts';
import { completion } from './completion.ts';
import { contextDelete, contextList, contextShow, contextUse } from './context.ts';
import { deleteCommand } from './delete.ts';
import { demo } from './demo.ts';
import { deploy } from './deploy.ts';
import { describe } from './describe.ts';
import { dev } from './dev.ts';
import { diff } from './diff.ts';
import { dlqList } from './dlq-list.ts';
import { dlqPurge, dlqRedrive } from './dlq-redrive.ts';
import { dlqShow } from './dlq-show.ts';
import { doctor } from './doctor.ts';
import { down } from './down.ts';
import { hostSetup } from './host-setup.ts';
import { imagesBuild } from './images-build.ts';
import { imagesList } from './images-list.ts';
import { imagesPush } from './images-push.ts';
import { imagesSave } from './images-save.ts';
import { init } from './init.ts';
import { invocationList } from './invocation-list.ts';
import { invocationCancel, invocationResult, invocationShow } from './invocation-show.ts';
import { invoke } from './invoke.ts';
import { list } from './list.ts';
import { login } from './login.ts';
import { logs } from './logs.ts';
import { namespaceDelete } from './namespace-delete.ts';
import { namespaceList } from './namespace-list.ts';
import { namespaceSet } from './namespace-set.ts';
import { render } from './render.ts';
import { revisions } from './revisions.ts';
import { rollback } from './rollback.ts';
import { runtimesBuild } from './runtimes-build.ts';
import { runtimesList } from './runtimes-list.ts';
import { schema } from './schema.ts';
import { secretDelete } from './secret-delete.ts';
import { secretList } from './secret-list.ts';
import { secretSet } from './secret-set.ts';
import { stats } from './stats.ts';
import { status } from './status.ts';
import { tokenCreate } from './token-create.ts';
import { tokenList } from './token-list.ts';
import { tokenRevoke } from './token-revoke.ts';
import { traffic } from './traffic.ts';
import { triggerAdd } from './trigger-add.ts';
import { triggerList } from './trigger-list.ts';
import { triggerPause, triggerResume } from './trigger-pause.ts';
import { triggerRemove } from './trigger-remove.ts';
import { triggerShow } from './trigger-show.ts';
import { up } from './up.ts';
import { version } from './version.ts';
import { whoami } from './whoami.ts';
import { why } from './why.ts';

/** What speaks to the control API can be told which. */
const remote = (spec: CommandSpec): CommandSpec => ({ ...spec, options: [...(spec.options ?? []), CONTEXT_OPTION] });

/** By what they are for, under the headings that the help has. */
export const COMMAND_GROUPS: Readonly<Record<string, readonly CommandSpec[]>> = {
  Begin: [demo, init, dev],
  Functions: [remote(deploy), remote(diff), render, remote(list), remote(describe), remote(invoke), remote(deleteCommand)],
  'Revisions and traffic': [remote(revisions), remote(rollback), remote(traffic)],
  'Logs and calls': [remote(logs), remote(why), remote(calls), remote(stats)],
  Events: [
    triggerAdd,
    triggerList,
    triggerShow,
    triggerPause,
    triggerResume,
    triggerRemove,
    invocationList,
    invocationShow,
    invocationResult,
    invocationCancel,
    dlqList,
    dlqShow,
    dlqRedrive,
    dlqPurge,
  ],
  'Secrets and tenants': [
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
  ],
  'The platform': [
    up,
    down,
    remote(status),
    runtimesBuild,
    remote(runtimesList),
    imagesBuild,
    imagesList,
    imagesSave,
    imagesPush,
    doctor,
    hostSetup,
  ],
  'A platform elsewhere': [login, whoami, contextList, contextUse, contextShow, contextDelete],
  'For shells and editors': [completion, schema, version],
};

export const COMMANDS: readonly CommandSpec[] = Object.values(COMMAND_GROUPS).flat();

/** What only the completion scripts run. */
export const HIDDEN_COMMANDS: readonly CommandSpec[] = [complete];

/** What groups of commands are for. */
export const GROUPS: Readonly<Record<string, string>> = {
  runtimes: 'build and list runtime images',
  images: 'build, list, save and push what a cluster needs',
  trigger: 'add, list, pause and remove triggers of functions',
  invocation: 'list, show and cancel what is answered later',
  dlq: 'list, show, redrive and purge dead letters',
  secret: 'set, list and delete secrets',
  token: 'create, list and revoke tokens',
  namespace: 'set, list and delete namespaces: quotas, hosts, networks',
  context: 'list, show, use and delete platforms you logged in to',
};
