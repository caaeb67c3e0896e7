import { describe, expect, it } from 'vitest';
import type { HostsCheck } from '../driver/types.ts';
import { checkHosts, insteadOfSandbox } from './deploy-checks.ts';

describe('hosts of an egress list, before a deployment', () => {
  const driver = (check: HostsCheck) => {
    const asked: unknown[] = [];
    return {
      asked,
      checkHosts(hosts: readonly string[], networks: readonly string[]) {
        asked.push([hosts, networks]);
        return Promise.resolve(check);
      },
    };
  };

  it('are looked at where there are any', async () => {
    const asks = driver({ refused: [], notes: ['one.example.com cannot be looked up now'] });
    const notes: string[] = [];
    for (const egress of ['none' as const, 'internet' as const]) await checkHosts(asks, egress, notes);
    expect(asks.asked).toEqual([]);
    await checkHosts(asks, ['10.0.0.0/8', 'one.example.com'], notes);
    expect(asks.asked).toEqual([[['one.example.com'], ['10.0.0.0/8']]]);
    expect(notes).toEqual(['one.example.com cannot be looked up now']);
  });

  it('networks alone as well, since the driver may keep one of them closed', async () => {
    const asks = driver({ refused: [], notes: ['192.0.2.2 is this machine'] });
    const notes: string[] = [];
    await checkHosts(asks, ['192.0.2.2/32'], notes);
    expect(asks.asked).toEqual([[[], ['192.0.2.2/32']]]);
    expect(notes).toEqual(['192.0.2.2 is this machine']);
  });

  it('refused ones are named, where they stand', async () => {
    const refuses = driver({ refused: [{ host: 'two.example.com', why: 'there is no such host' }], notes: [] });
    await expect(checkHosts(refuses, ['10.0.0.0/8', 'one.example.com', 'two.example.com'], [])).rejects.toMatchObject({
      code: 'invalid',
      message: 'Egress to two.example.com: there is no such host.',
      options: { errors: [{ pointer: '/settings/egress/2', detail: 'two.example.com: there is no such host' }] },
    });
  });
});

it('speaks of the chart where sandboxes are refused in a cluster, and nowhere else', () => {
  expect(insteadOfSandbox('kubernetes')).toMatch(/functions\.sandboxes of the chart/);
  expect(insteadOfSandbox('process')).toMatch(/--driver docker/);
  for (const driver of ['docker', 'process', 'fake']) expect(insteadOfSandbox(driver)).not.toMatch(/chart/);
});
