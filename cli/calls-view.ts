/** Calls on record, as a table. */
import type { CallRecord } from '#contract/call.ts';
import { wasCold } from '#contract/call.ts';
import { formatMs, printable, table } from './output.ts';

export function renderCalls(found: readonly CallRecord[]): string {
  return table(
    [
      { title: 'TIME', value: ({ t }) => new Date(t).toISOString().slice(0, 23).replace('T', ' ') },
      { title: 'STATUS', value: ({ status, aborted }) => (status === 0 || aborted === true ? 'gone' : String(status)), align: 'right' },
      { title: 'TOOK', value: ({ totalMs }) => formatMs(totalMs), align: 'right' },
      { title: 'START', value: (call) => (wasCold(call) ? call.start!.kind : call.instance === undefined ? '-' : 'warm') },
      { title: 'REVISION', value: ({ revision }) => revision?.slice(revision.lastIndexOf('@') + 1) ?? '-', align: 'right' },
      { title: 'INSTANCE', value: ({ instance }) => instance ?? '-' },
      { title: 'REQUEST', value: ({ id }) => printable(id) },
      { title: 'WHAT', value: ({ method, path, code }) => printable(`${method} ${path}${code === undefined ? '' : ` ${code}`}`) },
    ],
    found,
  );
}
