import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, it } from 'vitest';
import { DEFAULT_ACCESS, FunctionAccess, type FunctionAccessInput } from '#contract/access.ts';
import { FnError } from '#contract/errors.ts';
import { FunctionSettings, Revision } from '#contract/function.ts';
import { NamespaceSettings } from '#contract/tenancy.ts';
import { Trigger, type TriggerInput } from '#contract/trigger.ts';
import { systemClock } from '#kit/clock.ts';
import { silentLog } from '#kit/log.ts';
import type { FunctionRecord } from '../store/types.ts';
import { waitFor } from '../../test/helpers/wait.ts';
import { EventsService } from './service.ts';

const FILE = fileURLToPath(new URL('../../test/helpers/fake-dispatcher.ts', import.meta.url));

const CRON: TriggerInput = { type: 'cron', name: 'tick', schedule: '* * * * *' };
const HOOK: TriggerInput = { type: 'webhook', name: 'hook', verify: { scheme: 'github', secret: 'HOOK_SECRET' } };
const stream = (url: string, name = 'in'): TriggerInput => ({ type: 'redis-stream', name, url, stream: 's' });

function record(name: string, access: FunctionAccessInput = {}, namespace = 'default'): FunctionRecord {
  const revision = Revision.parse({
    key: `${namespace}/${name}@1`,
    namespace,
    name,
    number: 1,
    bundle: `sha256:${'0'.repeat(64)}`,
    entry: 'index.mjs',
    settings: { ...FunctionSettings.parse({ max: 4, timeoutSeconds: 20 }), concurrency: 5, egress: 'none' },
    form: 'fetch',
    createdAt: 1,
  });
  return {
    namespace,
    name,
    traffic: [{ revision: 1, percent: 100 }],
    access: FunctionAccess.parse(access),
    generation: 1,
    revisions: [revision],
  };
}

/** As much of the engine as events need: a change is refused where somebody else was faster. */
class FakeFunctions {
  readonly records = new Map<string, FunctionRecord>();
  /** So many changes meet another one that came first. */
  races = 0;

  constructor(...records: FunctionRecord[]) {
    for (const one of records) this.records.set(`${one.namespace}/${one.name}`, one);
  }

  function(namespace: string, name: string): FunctionRecord {
    const found = this.records.get(`${namespace}/${name}`);
    if (!found) throw new FnError('function-not-found', `no ${name}`);
    return found;
  }

  functions(namespace?: string): FunctionRecord[] {
    return [...this.records.values()].filter((one) => namespace === undefined || one.namespace === namespace);
  }

  async setAccess(namespace: string, name: string, access: FunctionAccess, ifMatch: string | null): Promise<void> {
    const before = this.function(namespace, name);
    if (this.races > 0) {
      this.races -= 1;
      const other = Trigger.parse({ ...CRON, name: `other-${before.generation}` });
      this.records.set(`${namespace}/${name}`, {
        ...before,
        access: { ...before.access, triggers: [...before.access.triggers, other] },
        generation: before.generation + 1,
      });
    }
    const now = this.function(namespace, name);
    if (ifMatch !== String(now.generation)) throw new FnError('precondition-failed', 'it has changed');
    this.records.set(`${namespace}/${name}`, { ...now, access, generation: now.generation + 1 });
  }
}

const services: EventsService[] = [];
afterEach(async () => {
  await Promise.all(services.splice(0).map((service) => service.close(0)));
});

interface Setting {
  functions?: FakeFunctions;
  secrets?: Record<string, string>;
  namespaces?: Record<string, NamespaceSettings>;
  mayHaveEvents?: boolean;
  /** Names of secrets, as they are opened. */
  opened?: string[];
}

function service({ functions = new FakeFunctions(), secrets = {}, namespaces = {}, mayHaveEvents = false, opened = [] }: Setting = {}) {
  const one = new EventsService({
    functions: () => functions,
    reveal: async (namespace, names) => {
      opened.push(...names);
      const missing = names.find((name) => !(`${namespace}/${name}` in secrets));
      if (missing !== undefined) throw new FnError('secret-not-found', `no ${missing}`);
      return new Map(names.map((name) => [name, { value: secrets[`${namespace}/${name}`]! }]));
    },
    namespace: (name) => namespaces[name] ?? null,
    installation: async () => 'here',
    dispatcher: { file: FILE, env: { PATH: process.env.PATH } },
    mayHaveEvents: () => mayHaveEvents,
    publicUrl: 'http://fn.example.com',
    clock: systemClock,
    log: silentLog,
  });
  services.push(one);
  return one;
}

describe('a dispatcher', () => {
  it('is not started for functions that have nothing for it', () => {
    const events = service({ functions: new FakeFunctions(record('a'), record('b', { triggers: [HOOK, { ...CRON, enabled: false }] })) });
    events.start();
    expect(events.dispatcherPid).toBeNull();
  });

  it.each([
    ['a schedule', { functions: new FakeFunctions(record('a', { triggers: [CRON] })) }],
    ['events of an earlier run', { mayHaveEvents: true }],
  ])('is started for %s', (_what, setting) => {
    const events = service(setting);
    events.start();
    expect(events.dispatcherPid).not.toBeNull();
  });

  it('is started for a gateway that asks, and for a function that gets a trigger', () => {
    const asked = service();
    asked.start();
    asked.wanted();
    expect(asked.dispatcherPid).not.toBeNull();
    const changed = service();
    changed.start();
    changed.functionChanged('default', 'a', record('a', { triggers: [CRON] }));
    expect(changed.dispatcherPid).not.toBeNull();
  });

  it('is told a new value of a secret that a trigger needs, and those that are missing are left out', async () => {
    const secrets: Record<string, string> = { 'default/HOOK_SECRET': 'one' };
    const functions = new FakeFunctions(record('a', { triggers: [HOOK, stream('redis://:${secret:MISSING}@10.0.0.1')] }));
    const events = service({ functions, secrets });
    events.start();
    await events.backlog('default', 'a');
    secrets['default/HOOK_SECRET'] = 'two';
    events.secretChanged('default', 'HOOK_SECRET');
    const told = [{ secrets: { 'default/HOOK_SECRET': 'one' } }, { set: ['a'], secrets: { 'default/HOOK_SECRET': 'two' } }];
    await waitFor('the change', async () => {
      expect(await events.getInvocation('default', 'a', 'e-1')).toMatchObject({ told });
      return true;
    });
  });
});

describe('the value of a secret', () => {
  it('is kept as long as a function needs it, and no longer', async () => {
    const functions = new FakeFunctions(record('a', { triggers: [HOOK, CRON] }));
    const opened: string[] = [];
    const events = service({ functions, secrets: { 'default/HOOK_SECRET': 'one' }, opened });
    events.start();
    await events.backlog('default', 'a');
    const becomes = async (access: FunctionAccessInput, told: number) => {
      functions.records.set('default/a', record('a', access));
      events.functionChanged('default', 'a', functions.function('default', 'a'));
      await waitFor('the change', async () => {
        expect(await events.getInvocation('default', 'a', 'e-1')).toMatchObject({ told: { length: told } });
        return true;
      });
    };
    await becomes({ triggers: [CRON, HOOK] }, 2);
    expect(opened).toEqual(['HOOK_SECRET']);
    await becomes({ triggers: [CRON] }, 3);
    await becomes({ triggers: [HOOK] }, 4);
    expect(opened).toEqual(['HOOK_SECRET', 'HOOK_SECRET']);
  });
});

describe('triggers', () => {
  it('are told without a dispatcher too: webhooks with their URL, paused ones as such', async () => {
    const functions = new FakeFunctions(record('a', { triggers: [HOOK, { ...CRON, enabled: false }] }, 'team'), record('b', {}, 'team'));
    const views = await service({ functions }).listTriggers('team', null);
    expect(views.map(({ function: name, trigger, status, url }) => [name, trigger.name, status.state, url])).toEqual([
      ['a', 'hook', 'idle', 'http://fn.example.com/.fn/webhooks/@team/a/hook'],
      ['a', 'tick', 'paused', null],
    ]);
  });

  it('are added, replaced, paused and removed, whoever changes the function meanwhile', async () => {
    const functions = new FakeFunctions(record('a'));
    const events = service({ functions });
    functions.races = 2;
    await events.putTrigger('default', 'a', Trigger.parse(CRON));
    const names = () => functions.function('default', 'a').access.triggers.map(({ name, enabled }) => [name, enabled]);
    expect(names()).toEqual([
      ['other-1', true],
      ['other-2', true],
      ['tick', true],
    ]);
    await events.enableTrigger('default', 'a', 'tick', false);
    await events.removeTrigger('default', 'a', 'other-1');
    await events.putTrigger('default', 'a', Trigger.parse({ ...CRON, name: 'other-2', enabled: false }));
    expect(names()).toEqual([
      ['other-2', false],
      ['tick', false],
    ]);
    await expect(events.removeTrigger('default', 'a', 'nothing')).rejects.toMatchObject({ code: 'trigger-not-found' });
    await expect(events.getTrigger('default', 'a', 'nothing')).rejects.toMatchObject({ code: 'trigger-not-found' });
    await expect(events.listTriggers('default', 'b')).rejects.toMatchObject({ code: 'function-not-found' });
  });
});

describe('what a function’s events may be', () => {
  const check = (events: EventsService, namespace: string, access: FunctionAccessInput) =>
    events.check(namespace, FunctionAccess.parse(access), DEFAULT_ACCESS);

  it('names secrets that are there', async () => {
    await expect(check(service(), 'default', { triggers: [HOOK] })).rejects.toMatchObject({ code: 'secret-not-found' });
    const there = service({ secrets: { 'default/HOOK_SECRET': 'x' } });
    await expect(check(there, 'default', { triggers: [HOOK] })).resolves.toBeUndefined();
  });

  it('dials, outside of the operator’s own namespace, public addresses and what is listed', async () => {
    const triggers = [stream('redis://10.1.2.3'), stream('redis://127.0.0.1', 'b'), stream('redis://1.2.3.4', 'c')];
    const outcome = { onSuccess: [{ type: 'webhook' as const, url: 'http://169.254.169.254/latest' }] };
    await check(service(), 'default', { triggers, async: outcome });
    await expect(check(service(), 'team', { triggers, async: outcome })).rejects.toMatchObject({
      code: 'invalid',
      options: {
        errors: [{ pointer: '/access/triggers/0' }, { pointer: '/access/triggers/1' }, { pointer: '/access/async/onSuccess/0' }],
      },
    });
    const listed = { team: NamespaceSettings.parse({ networks: ['10.1.0.0/16'] }), default: NamespaceSettings.parse({ networks: [] }) };
    await check(service({ namespaces: listed }), 'team', { triggers: [triggers[0]!] });
    await expect(check(service({ namespaces: listed }), 'default', { triggers })).rejects.toMatchObject({ code: 'invalid' });
  });

  it('may name a host that is not known now', async () => {
    await expect(check(service(), 'team', { triggers: [stream('redis://nowhere.invalid')] })).resolves.toBeUndefined();
  });
});
