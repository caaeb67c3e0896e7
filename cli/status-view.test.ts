import { expect, it } from 'vitest';
import type { PlatformStatus } from '#contract/api.ts';
import { renderStatus } from './status-view.ts';

const of = (name: string, events?: PlatformStatus['functions'][number]['events']): PlatformStatus['functions'][number] => ({
  namespace: 'default',
  name,
  url: `http://x/${name}`,
  revision: `default/${name}@1`,
  instances: 0,
  ...(events === undefined ? {} : { events }),
});

const status = (functions: PlatformStatus['functions'], pid: number | null): PlatformStatus => ({
  version: '0',
  home: '/h',
  gateway: { pid: 1, url: 'http://x', connected: 1 },
  controller: { pid: 2, url: 'unix:/s', term: 1, uptimeSeconds: 1 },
  dispatcher: { pid },
  driver: 'process',
  features: { freeze: false, exactLimits: false, parentCgroup: false, egress: 'none', notes: [] },
  budget: { memoryMib: 1, memoryUsedMib: 0, cpu: 1, cpuUsed: 0 },
  runtimes: [],
  functions,
  instances: [],
});

const shown = (...args: Parameters<typeof status>): string => renderStatus(status(...args), (_, text) => text);

it('shows triggers and backlog of functions that have any, and the dispatcher where it runs', () => {
  const text = shown([of('a', { triggers: 1, waiting: 14, running: 0, dead: 2 }), of('b')], 77);
  expect(text).toContain('dispatcher  pid 77\n');
  expect(text).toMatch(/FUNCTION +INSTANCES {2}EVENTS +URL\na@1 +0 {2}1 trigger, 14 wait, 2 dead {2}http:\/\/x\/a\nb@1 +0 {2}– +http/);
});

it('names gateways of this host by their pids, and others by their names', () => {
  const gateways = (...list: NonNullable<PlatformStatus['gateways']>) =>
    /^gateway +(.*)$/m.exec(renderStatus({ ...status([], null), gateways: list }, (_, text) => text))?.[1];
  expect(gateways({ id: 'g/1', pid: 7 }, { id: 'h/2', pid: 8 })).toContain('pids 7, 8');
  expect(gateways({ id: 'gateway-5c-x/1', pid: null }, { id: 'h/2', pid: 8 })).toContain('gateway-5c-x, pid 8');
});

it('says nothing of events where there are none', () => {
  expect(shown([of('a')], null)).not.toMatch(/EVENTS|dispatcher/);
});

it('on pods: no cores that nobody counts, and no pids that there are not', () => {
  const pod: PlatformStatus['instances'][number] = {
    id: 'i-1',
    state: 'idle',
    runtime: 'node',
    memoryMib: 128,
    network: 'egress',
    cpu: 1,
    ageSeconds: 3,
  };
  const text = renderStatus({ ...status([], null), budget: { ...status([], null).budget, cpu: 100_000 }, instances: [pod] }, (_, t) => t);
  expect(text).toMatch(/^cpu +0 cores promised$/m);
  expect(text).not.toContain('PID');
  expect(renderStatus({ ...status([], null), instances: [pod, { ...pod, pid: 7 }] }, (_, t) => t)).toContain('PID');
});

it('says of idle instances how long they stay if nobody comes', () => {
  const instance: PlatformStatus['instances'][number] = {
    id: 'i-1',
    state: 'frozen',
    runtime: 'node',
    memoryMib: 128,
    network: 'egress',
    cpu: 1,
    ageSeconds: 3,
  };
  const text = (...instances: PlatformStatus['instances']) => renderStatus({ ...status([], null), instances }, (_, t) => t);
  expect(text(instance)).not.toContain('STAYS');
  const mixed = text({ ...instance, goesInSeconds: 299 }, { ...instance, id: 'i-2', goesInSeconds: null }, { ...instance, id: 'i-3' });
  expect(mixed).toMatch(/AGE {2}STAYS\ni-1 .*3s {5}4m\ni-2 .*3s {3}kept\ni-3 .*3s {6}–\n$/);
});
