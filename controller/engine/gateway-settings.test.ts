/** What gateways are told beside routes and leases: limits, tokens, how many they are, certificates. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { ControllerMessage } from '#contract/link.ts';
import { testAuthority } from '../../test/helpers/certificates.ts';
import { driven, Machine } from '../../test/helpers/engine-harness.ts';
import type { TestGateway } from '../../test/helpers/test-gateway.ts';
import type { Tenancy } from './context.ts';

let machine: Machine;

beforeEach(async () => {
  machine = await Machine.create();
});
afterEach(() => machine.close());

class Tenants implements Tenancy {
  #listeners: (() => void | Promise<void>)[] = [];
  limit = 10;

  namespaces = () => [];
  gatewaySettings = () => ({ limits: [{ namespace: 'team', concurrency: this.limit, requestsPerSecond: null }], tokens: [] });
  onChange = (listener: () => void | Promise<void>) => void this.#listeners.push(listener);

  async changed(): Promise<void> {
    for (const listener of this.#listeners) await listener();
  }
}

const settings = (gateway: TestGateway) =>
  gateway.heard.filter((message): message is Extract<ControllerMessage, { type: 'settings' }> => message.type === 'settings');

describe('settings of gateways', () => {
  it('come after the welcome, and again when another gateway comes or goes; a process that replaces its like counts once', async () => {
    await machine.start({ tenancy: new Tenants() });
    const one = await machine.gateway({ gateway: 'one' });
    await machine.until('its settings', () => settings(one).at(-1)?.gateways === 1);
    expect(settings(one)[0]).toMatchObject({ limits: [{ namespace: 'team', concurrency: 10 }], tokens: [] });
    const two = await machine.gateway({ gateway: 'two' });
    await machine.until('both know of each other', () => [one, two].every((gateway) => settings(gateway).at(-1)?.gateways === 2));
    const successor = await machine.gateway({ gateway: 'two', boot: 'next' });
    await machine.until('it is told', () => settings(successor).length > 0);
    expect(settings(successor).at(-1)?.gateways).toBe(2);
    two.close();
    successor.close();
    await machine.until('one is left', () => settings(one).at(-1)?.gateways === 1);
  });

  it('count a gateway whose link is down until it is lost: it serves on, by its share', async () => {
    await machine.start({ tenancy: new Tenants() });
    const one = await machine.gateway({ gateway: 'one' });
    const two = await machine.gateway({ gateway: 'two' });
    await machine.until('both know of each other', () => settings(one).at(-1)?.gateways === 2);
    two.close();
    await machine.pass(1_000);
    expect(settings(one).at(-1)?.gateways).toBe(2);
    const back = await machine.gateway({ gateway: 'two' });
    await machine.until('it is told', () => settings(back).length > 0);
    expect(settings(one).at(-1)?.gateways).toBe(2);
    back.close();
    await machine.until('one is left', () => settings(one).at(-1)?.gateways === 1);
  });

  it('that change are answered when the gateways have heard', async () => {
    const tenancy = new Tenants();
    await machine.start({ tenancy });
    const gateway = await machine.gateway({ acknowledge: false });
    gateway.say({ type: 'routed', version: (await gateway.next('welcome')).version });
    tenancy.limit = 20;
    const changing = tenancy.changed();
    let answered = false;
    void changing.then(() => (answered = true));
    const marker = await gateway.next('routes');
    expect(settings(gateway).at(-1)?.limits[0]?.concurrency).toBe(20);
    await machine.quiet();
    expect(answered).toBe(false);
    gateway.say({ type: 'routed', version: marker.version });
    await driven(machine, changing);
  });

  it('bring certificates, and the renewed ones without a restart', async () => {
    const authority = testAuthority();
    const folder = join(machine.paths.home, 'certificates');
    await mkdir(folder);
    const put = async (name: string) => {
      const { cert, key } = authority.issue(`${name}.example.com`);
      await writeFile(join(folder, `${name}.key`), key);
      await writeFile(join(folder, `${name}.crt`), cert);
    };
    await put('a');
    machine.clock.jumpWall(Date.now() - machine.clock.wall());
    const engine = await machine.start({ certificates: folder });
    const gateway = await machine.gateway();
    const names = () =>
      gateway.heard
        .flatMap((message) => (message.type === 'certificates' ? [message.certificates.map((one) => one.names.join())] : []))
        .at(-1);
    await machine.until('the first', () => names()?.join() === 'a.example.com');
    await put('b');
    await machine.until('both', () => names()?.join() === 'a.example.com,b.example.com', 100);
    expect((await engine.status()).features.notes.join()).toMatch(/certificate a expires on/);
  });
});
