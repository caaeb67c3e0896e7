/** How `fn status` looks. */
import type { InstanceView, PlatformStatus } from '#contract/api.ts';
import { revisionLabel } from '#contract/names.ts';
import type { Painter } from './context.ts';
import type { Column } from './output.ts';
import { fields, formatAge, table } from './output.ts';

/** Where the platform is given so many cores, it is not the one that counts them: Kubernetes places pods by what they ask for. */
const NO_BUDGET_CORES = 100_000;

/** Processes of this machine that the controller which leads knows nothing of, by name: from the supervisor. */
export type Processes = Readonly<Record<string, { pid: number }>>;

/** The status as text. `processes`: none where the platform is another machine's. */
export function renderStatus(answer: PlatformStatus, paint: Painter, processes: Processes = {}): string {
  const { gateway, controller, dispatcher, driver, features, budget, functions, instances, runtimes } = answer;
  const standby = Object.entries(processes).filter(([name, { pid }]) => /^controller(?:-\d+)?$/.test(name) && pid !== controller.pid);
  const parts = [
    fields([
      ['gateway', `${gateway.url}  ${gatewayPids(answer)}`],
      ...(gateway.tlsUrl === undefined ? [] : ([['https', gateway.tlsUrl]] satisfies [string, string][])),
      [
        'controller',
        `${controller.url}  pid ${controller.pid}, term ${controller.term}, up ${formatAge(controller.uptimeSeconds)}${standby.length > 0 ? ', leads' : ''}`,
      ],
      ...(standby.length === 0
        ? []
        : ([['standby', standby.map(([name, { pid }]) => `${name} pid ${pid}`).join(', ')]] satisfies [string, string][])),
      ...(answer.store === undefined ? [] : ([['store', answer.store]] satisfies [string, string][])),
      ...(dispatcher.pid === null ? [] : ([['dispatcher', `pid ${dispatcher.pid}`]] satisfies [string, string][])),
      ['driver', `${driver}  ${featureWords(features)}`],
      ['memory', `${Math.round(budget.memoryUsedMib)} of ${Math.round(budget.memoryMib)} MiB`],
      ['cpu', `${round(budget.cpuUsed)}${budget.cpu < NO_BUDGET_CORES ? ` of ${round(budget.cpu)}` : ''} cores promised`],
      ['runtimes', runtimes.map(({ name, version }) => `${name} ${version}`).join(', ') || 'none'],
      ['home', `${answer.home}  fn ${answer.version}`],
    ]),
  ];
  for (const note of features.notes) parts.push(`${paint('yellow', 'note')}  ${note}\n`);
  parts.push('\n', functions.length === 0 ? 'No functions yet: fn deploy FILE\n' : functionTable(functions));
  parts.push('\n', instances.length === 0 ? 'No instances.\n' : instanceTable(instances));
  return parts.join('');
}

/** `pid 12`, or of several `pids 12, 13`; those of other hosts by their names. */
function gatewayPids({ gateway, gateways = [] }: PlatformStatus): string {
  if (gateways.some(({ pid }) => pid === null)) return gateways.map(({ id, pid }) => (pid === null ? nameOf(id) : `pid ${pid}`)).join(', ');
  if (gateways.length > 1) return `pids ${gateways.map(({ pid }) => pid).join(', ')}`;
  return `pid ${gateway.pid ?? '– (not connected)'}`;
}

/** Without what tells its processes apart. */
const nameOf = (id: string): string => id.slice(0, id.lastIndexOf('/'));

const round = (value: number): string => String(Math.round(value * 100) / 100);

function featureWords({ freeze, exactLimits, parentCgroup, egress }: PlatformStatus['features']): string {
  const words = [`egress ${egress}`, exactLimits ? 'limits enforced' : 'limits not enforced'];
  if (freeze) words.push('freezes idle instances');
  if (parentCgroup) words.push('one parent cgroup');
  return words.join(', ');
}

function functionTable(functions: PlatformStatus['functions']): string {
  const events: Column<PlatformStatus['functions'][number]> = { title: 'EVENTS', value: (row) => eventWords(row.events) };
  return table(
    [
      { title: 'FUNCTION', value: (row) => revisionLabel(row.revision) },
      { title: 'INSTANCES', value: (row) => String(row.instances), align: 'right' },
      ...(functions.some((row) => row.events !== undefined) ? [events] : []),
      { title: 'URL', value: (row) => row.url },
    ],
    functions,
  );
}

/** `2 triggers, 14 wait, 1 dead`; what is 0 is left out. */
function eventWords(events: PlatformStatus['functions'][number]['events']): string {
  if (events === undefined) return '–';
  const { triggers, waiting, running, dead } = events;
  const parts = [`${triggers} ${triggers === 1 ? 'trigger' : 'triggers'}`, `${waiting} wait`, `${running} run`, `${dead} dead`];
  return parts.filter((part) => !part.startsWith('0 ')).join(', ');
}

function instanceTable(instances: InstanceView[]): string {
  // Of processes of this host; pods have none.
  const pid: Column<InstanceView> = { title: 'PID', value: (row) => (row.pid === undefined ? '–' : String(row.pid)), align: 'right' };
  // How long it stays if nobody comes.
  const stays: Column<InstanceView> = { title: 'STAYS', value: stayWords, align: 'right' };
  return table(
    [
      { title: 'INSTANCE', value: (row) => row.id },
      { title: 'STATE', value: (row) => row.state },
      { title: 'RUNTIME', value: (row) => row.runtime },
      { title: 'REVISION', value: (row) => (row.revision === undefined ? '–' : revisionLabel(row.revision)) },
      { title: 'MEMORY', value: (row) => `${row.memoryMib} MiB`, align: 'right' },
      { title: 'NETWORK', value: (row) => row.network },
      ...(instances.some(({ pid }) => pid !== undefined) ? [pid] : []),
      { title: 'AGE', value: (row) => formatAge(row.ageSeconds), align: 'right' },
      ...(instances.some(({ goesInSeconds }) => goesInSeconds !== undefined) ? [stays] : []),
    ],
    instances,
  );
}

/** `4m`: so long, if nobody comes; `kept`: for `min` or a deployment. */
function stayWords({ goesInSeconds }: InstanceView): string {
  if (goesInSeconds === undefined) return '–';
  return goesInSeconds === null ? 'kept' : formatAge(goesInSeconds);
}
