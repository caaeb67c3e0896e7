/** How `fn status` looks. */
import type { InstanceView, PlatformStatus } from '#contract/api.ts';
import { revisionLabel } from '#contract/names.ts';
import type { Painter } from './context.ts';
import { fields, formatAge, table } from './output.ts';

/** The status as text. */
export function renderStatus(answer: PlatformStatus, paint: Painter): string {
  const { gateway, controller, driver, features, budget, functions, instances, runtimes } = answer;
  const parts = [
    fields([
      ['gateway', `${gateway.url}  pid ${gateway.pid ?? '– (not connected)'}`],
      ...(gateway.tlsUrl === undefined ? [] : ([['https', gateway.tlsUrl]] satisfies [string, string][])),
      ['controller', `${controller.url}  pid ${controller.pid}, term ${controller.term}, up ${formatAge(controller.uptimeSeconds)}`],
      ['driver', `${driver}  ${featureWords(features)}`],
      ['memory', `${Math.round(budget.memoryUsedMib)} of ${Math.round(budget.memoryMib)} MiB`],
      ['cpu', `${round(budget.cpuUsed)} of ${round(budget.cpu)} cores promised`],
      ['runtimes', runtimes.map(({ name, version }) => `${name} ${version}`).join(', ') || 'none'],
      ['home', `${answer.home}  fn ${answer.version}`],
    ]),
  ];
  for (const note of features.notes) parts.push(`${paint('yellow', 'note')}  ${note}\n`);
  parts.push('\n', functions.length === 0 ? 'No functions yet: fn deploy FILE\n' : functionTable(functions));
  parts.push('\n', instances.length === 0 ? 'No instances.\n' : instanceTable(instances));
  return parts.join('');
}

const round = (value: number): string => String(Math.round(value * 100) / 100);

function featureWords({ freeze, exactLimits, parentCgroup, egress }: PlatformStatus['features']): string {
  const words = [`egress ${egress}`, exactLimits ? 'limits enforced' : 'limits not enforced'];
  if (freeze) words.push('freezes idle instances');
  if (parentCgroup) words.push('one parent cgroup');
  return words.join(', ');
}

function functionTable(functions: PlatformStatus['functions']): string {
  return table(
    [
      { title: 'FUNCTION', value: (row) => revisionLabel(row.revision) },
      { title: 'INSTANCES', value: (row) => String(row.instances), align: 'right' },
      { title: 'URL', value: (row) => row.url },
    ],
    functions,
  );
}

function instanceTable(instances: InstanceView[]): string {
  return table(
    [
      { title: 'INSTANCE', value: (row) => row.id },
      { title: 'STATE', value: (row) => row.state },
      { title: 'RUNTIME', value: (row) => row.runtime },
      { title: 'REVISION', value: (row) => (row.revision === undefined ? '–' : revisionLabel(row.revision)) },
      { title: 'MEMORY', value: (row) => `${row.memoryMib} MiB`, align: 'right' },
      { title: 'NETWORK', value: (row) => row.network },
      { title: 'PID', value: (row) => (row.pid === undefined ? '–' : String(row.pid)), align: 'right' },
      { title: 'AGE', value: (row) => formatAge(row.ageSeconds), align: 'right' },
    ],
    instances,
  );
}
