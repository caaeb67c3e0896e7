/** Instances of the lease table in virtual time: sections of docs/leases.md in brackets. */
import { describe, expect, it } from 'vitest';
import type { Cause } from './demand.ts';
import { type Lease, setUp } from './lease-testing.ts';
import { CAUSE_WAIT_MS } from './leased-instances.ts';
import { SWEEP_MS } from './leases.ts';

describe('instances', () => {
  it('[9] gone: leases are void without a release, whoever asks why is told at once, connections end a little later', () => {
    const { ask, clock, connections, grant, of, table } = setUp();
    grant('l1', 'i1', 2);
    const a = ask();
    const heard: (Cause | null)[] = [];
    table.instances.why(a.lease!.instance, (cause) => heard.push(cause));
    table.gone('i1', { cause: 'oom', detail: '' });
    expect(heard).toEqual([{ cause: 'oom', detail: '' }]);
    table.instances.why(a.lease!.instance, (cause) => heard.push(cause));
    expect(heard).toHaveLength(2);
    expect(ask().got).toBe('waiting');
    expect(connections.get('i1')![0]!.closed).toBe(0);
    clock.advance(CAUSE_WAIT_MS);
    expect(connections.get('i1')![0]!.closed).toBe(1);
    table.free(a.lease!);
    expect(of('release')).toEqual([]);
    clock.advance(10_000);
    expect(heard).toHaveLength(2);
  });

  it.each(['unused', 'revoked'] as const)('[9] who asks why keeps the lease until it is told, %s or not: only holders are told', (how) => {
    const { ask, clock, grant, of, table } = setUp();
    const heard: (Cause | null)[] = [];
    const lost = (lease: Lease): void => {
      table.instances.why(lease.instance, (cause) => heard.push(cause));
      table.free(lease);
      if (how === 'revoked') table.revoke(lease.id, 0, 30_000);
    };
    grant('l1', 'i1');
    lost(ask().lease!);
    clock.advance(CAUSE_WAIT_MS - 1);
    expect(of('release')).toEqual([]);
    table.gone('i1', { cause: 'oom', detail: '' });
    expect(heard).toEqual([{ cause: 'oom', detail: '' }]);
    // Where nobody says it, the lease is given back then.
    grant('l2', 'i2');
    lost(ask().lease!);
    clock.advance(CAUSE_WAIT_MS + SWEEP_MS);
    expect([heard.at(-1), of('release'), table.size]).toEqual([null, [{ type: 'release', lease: 'l2' }], 0]);
  });

  it('[9] nobody says why: null after some seconds', () => {
    const { ask, clock, grant, table } = setUp();
    grant('l1', 'i1');
    const heard: (Cause | null)[] = [];
    table.instances.why(ask().lease!.instance, (cause) => heard.push(cause));
    clock.advance(CAUSE_WAIT_MS - 1);
    expect(heard).toEqual([]);
    clock.advance(1);
    expect(heard).toEqual([null]);
  });

  it('[10] unreachable: suspect, where it is still known', () => {
    const { table, grant, ask, of } = setUp();
    grant('l1', 'i1');
    table.instances.unreachable('i1', 'no connection');
    table.instances.unreachable('i2', 'no connection');
    expect([ask().got, of('suspect')]).toEqual(['waiting', [{ type: 'suspect', instance: 'i1', reason: 'no connection' }]]);
  });

  it('[10] suspect: not used, told once (and again after a reconnect), until clear', () => {
    const { ask, grant, of, table } = setUp();
    grant('l1', 'i1', 2);
    const { lease } = ask();
    table.instances.suspect(lease!.instance, 'x');
    table.instances.suspect(lease!.instance, 'y');
    table.free(lease!);
    const waiter = ask();
    expect([waiter.got, of('suspect')]).toEqual(['waiting', [{ type: 'suspect', instance: 'i1', reason: 'x' }]]);
    table.linkUp(['l1']);
    expect(of('suspect')).toHaveLength(2);
    table.clear('i1');
    expect(waiter.lease?.id).toBe('l1');
  });
});
