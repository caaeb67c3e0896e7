/** What functions can dial, tried from inside one. Root only, as the rules are. */
import { execFileSync } from 'node:child_process';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { networkInterfaces } from 'node:os';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { silentLog } from '#kit/log.ts';
import { createDockerDriver } from '../../controller/driver/docker/driver.ts';
import type { DriverInstance } from '../../controller/driver/types.ts';
import { dnsServer, type DnsServer } from '../helpers/dns.ts';
import { findLeaks } from '../helpers/leaks.ts';
import { waitFor } from '../helpers/wait.ts';
import { runtimeImages } from './driver.image.ts';
import { call } from './driver.instance.ts';
import { FAR, NEAR, dialFromHere, makeFarSide } from './driver.netns.ts';
import { Bench, nothingLeft } from './driver.suite.ts';

const images = await runtimeImages();
const docker = (...args: string[]) => execFileSync('docker', args, { encoding: 'utf8' }).trim();

/** Short, so that a change of a name is seen while somebody waits. */
const HOST_LIMITS = { minTtlMs: 200, graceMs: 3_000, staleMs: 60_000, retryMs: 200 };

/** What a refusal looks like from inside: told at once, or nothing at all. */
const REFUSED = /^(?:EHOSTUNREACH|ENETUNREACH|ECONNREFUSED|EACCES|EPERM|timeout)$/;

describe('egress of the docker driver', () => {
  let bench: Bench;
  let removeFarSide: () => Promise<void> = () => Promise.resolve();
  let onHost: Server;
  let hostPort = 0;
  let neighbour = { container: '', address: '' };

  let dns: DnsServer;

  const dial = async (from: DriverInstance, host: string, port: number) => (await call(from, `/dial?host=${host}&port=${port}`)).body;
  const make = () =>
    new Bench({
      make: (paths) =>
        createDockerDriver({
          paths,
          images,
          version: 'test',
          memoryBudgetMib: 2_048,
          cpuBudget: 64,
          egressPolicy: 'require-filter',
          log: silentLog,
          hostNames: { servers: [dns.address], limits: HOST_LIMITS },
        }),
    });

  beforeAll(async () => {
    removeFarSide = await makeFarSide();
    dns = await dnsServer();
    onHost = createServer((socket) => socket.end('host'));
    await new Promise<void>((resolve) => onHost.listen(0, '0.0.0.0', resolve));
    hostPort = (onHost.address() as AddressInfo).port;
    bench = make();
    await bench.driver.start();
    const script = "require('net').createServer((socket) => socket.end('neighbour')).listen(8080)";
    const network = `fn-${bench.paths.homeId}`;
    neighbour.container = docker('run', '-d', '--network', network, '--entrypoint', 'node', images.node!, '-e', script);
    neighbour.address = docker('inspect', '-f', '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}', neighbour.container);
  });
  afterEach(() => bench.killAll());
  afterAll(async () => {
    if (neighbour.container !== '') docker('rm', '-f', neighbour.container);
    await bench.dispose();
    onHost.close();
    dns.close();
    await removeFarSide();
    await nothingLeft(findLeaks, bench.paths);
  });

  it('has targets that answer, so that a refusal means something', async () => {
    for (const host of [FAR.public, FAR.other, FAR.private, FAR.linkLocal]) expect(await dialFromHere(host, FAR.port)).toBe('said far');
    expect(await waitFor('the neighbour', async () => (await dialFromHere(neighbour.address, 8_080)) === 'said neighbour')).toBe(true);
    expect(await dialFromHere(NEAR, hostPort)).toBe('said host');
  });

  it('internet: what is public, and nothing else', async () => {
    expect(bench.driver.features.egress).toBe('filtered');
    const instance = await bench.run({ network: 'egress', egress: 'internet' });
    expect(await dial(instance, FAR.public, FAR.port)).toBe('said far');

    for (const host of [FAR.private, FAR.linkLocal]) expect(await dial(instance, host, FAR.port)).toMatch(REFUSED);
    expect(await dial(instance, neighbour.address, 8_080)).toMatch(REFUSED);
    const ours = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? []);
    const hosts = ours.filter(({ family }) => family === 'IPv4').map(({ address }) => address);
    expect(hosts).toContain(NEAR);
    for (const host of hosts) expect(await dial(instance, host, hostPort)).toMatch(REFUSED);
  });

  it('has no IPv6 at all', async () => {
    const instance = await bench.run({ network: 'egress', egress: 'internet' });
    expect((await call(instance, '/interfaces')).body).not.toContain('IPv6');
    expect(await dial(instance, '::ffff:169.254.213.77', FAR.port)).toMatch(REFUSED);
    expect(await dial(instance, 'fe80::1', 80)).not.toMatch(/^said/);
  });

  it('a list: those networks only, not even the rest of the internet, never host or link-local', async () => {
    const instance = await bench.run({ network: 'egress', egress: ['10.213.77.0/24', '169.254.213.77', `${NEAR}/32`] });
    expect(await dial(instance, FAR.private, FAR.port)).toBe('said far');
    expect(await dial(instance, FAR.public, FAR.port)).toMatch(REFUSED);
    expect(await dial(instance, FAR.linkLocal, FAR.port)).toMatch(REFUSED);
    expect(await dial(instance, NEAR, hostPort)).toMatch(REFUSED);
    expect(await dial(instance, neighbour.address, 8_080)).toMatch(REFUSED);
    // Names are found by nobody, and at once: as the list has no name server, nobody is there to ask.
    expect((await call(instance, '/self')).body).toContain('nameserver 127.0.0.1\\n');
  });

  it('the list of one instance is not another’s, nor that of the next with its address', async () => {
    const listed = await bench.run({ network: 'egress', egress: ['10.213.77.0/24'] });
    const open = await bench.run({ network: 'egress', egress: 'internet' });
    expect(await dial(open, FAR.private, FAR.port)).toMatch(REFUSED);
    await bench.driver.kill(listed.id);
    const next = await bench.run({ network: 'egress', egress: 'internet' });
    expect(await dial(next, FAR.private, FAR.port)).toMatch(REFUSED);
    expect(await dial(next, FAR.public, FAR.port)).toBe('said far');
  });

  describe('hosts by name', () => {
    const HOST = 'api.example.com';
    const found = async (from: DriverInstance, host: string): Promise<unknown> =>
      JSON.parse((await call(from, `/lookup?host=${host}`)).body);
    const point = (host: string, ...addresses: string[]) => void dns.hosts.set(host, { addresses, ttl: 0 });
    afterEach(() => dns.hosts.clear());

    it('reaches what the name stands for, follows it when it changes, and lets go of the old address after a while', async () => {
      point(HOST, FAR.public);
      const instance = await bench.run({ network: 'egress', egress: [HOST] });
      expect(await found(instance, HOST)).toEqual([FAR.public]);
      expect(await dial(instance, HOST, FAR.port)).toBe('said far');
      expect(await dial(instance, FAR.other, FAR.port)).toMatch(REFUSED);

      point(HOST, FAR.other);
      await waitFor('the new address', async () => JSON.stringify(await found(instance, HOST)) === JSON.stringify([FAR.other]));
      expect(await dial(instance, HOST, FAR.port)).toBe('said far');
      await waitFor('the end of the old one', async () => REFUSED.test(await dial(instance, FAR.public, FAR.port)));
      expect(await dial(instance, HOST, FAR.port)).toBe('said far');
      // And with nobody to ask it goes on with what it has.
      dns.hosts.set(HOST, null);
      execFileSync('iptables', ['-w', '5', '-F', `FN-${bench.paths.homeId}-FWD`]);
      await bench.driver.close();
      await bench.driver.start();
      expect(await dial(instance, HOST, FAR.port)).toBe('said far');
      expect(await dial(instance, FAR.public, FAR.port)).toMatch(REFUSED);
    });

    it('a name opens public addresses only; private ones where their network is listed too, never the host or link-local', async () => {
      point('inside.example.com', FAR.private, FAR.linkLocal, NEAR, '127.0.0.1');
      point(HOST, FAR.public);
      const named = await bench.run({ network: 'egress', egress: ['inside.example.com', HOST] });
      expect(await found(named, HOST)).toEqual([FAR.public]);
      expect(await found(named, 'inside.example.com')).not.toContain('.');
      for (const host of [FAR.private, FAR.linkLocal, NEAR]) expect(await dial(named, host, FAR.port)).toMatch(REFUSED);
      const listed = await bench.run({ network: 'egress', egress: ['inside.example.com', '10.213.77.0/24'] });
      expect(await found(listed, 'inside.example.com')).toEqual([FAR.private]);
      expect(await dial(listed, 'inside.example.com', FAR.port)).toBe('said far');
    });

    it('other names are not found, and nobody is asked for them', async () => {
      point(HOST, FAR.public);
      point('other.example.com', FAR.other);
      const instance = await bench.run({ network: 'egress', egress: [HOST] });
      expect(await found(instance, 'other.example.com')).toMatch(/^(?:EAI_AGAIN|ENOTFOUND)$/);
      // Where nobody listens, so that it is refused at once: with a name server that is out of reach it takes ten seconds.
      expect((await call(instance, '/self')).body).toContain('nameserver 127.0.0.1\\n');
      // Unless the list has the name server itself.
      const asking = await bench.run({ network: 'egress', egress: [HOST, '0.0.0.0/0'] });
      expect((await call(asking, '/self')).body).not.toContain('nameserver 127.0.0.1\\n');
    });

    it('is asked for before a deployment', async () => {
      point(HOST, FAR.public, FAR.private);
      point('inside.example.com', FAR.private);
      dns.hosts.set('broken.example.com', null);
      const check = await bench.driver.checkHosts([HOST, 'inside.example.com', 'broken.example.com', 'nowhere.example.com'], []);
      expect(check.refused.map(({ host }) => host)).toEqual(['inside.example.com', 'nowhere.example.com']);
      expect(check.notes).toEqual([
        expect.stringContaining(FAR.private),
        expect.stringContaining('broken.example.com cannot be looked up'),
      ]);
      expect(await bench.driver.checkHosts(['inside.example.com'], ['10.0.0.0/8'])).toEqual({ refused: [], notes: [] });
    });
  });

  it('none: no network to dial with', async () => {
    const instance = await bench.run({ network: 'none', egress: 'none' });
    for (const host of [FAR.public, FAR.private, FAR.linkLocal, NEAR]) expect(await dial(instance, host, FAR.port)).toMatch(REFUSED);
    expect(Object.keys(JSON.parse((await call(instance, '/interfaces')).body))).toEqual(['lo']);
  });

  it('puts the rules of what runs back when the next controller starts', async () => {
    const listed = await bench.run({ network: 'egress', egress: ['10.213.77.0/24'] });
    await bench.driver.close();
    // As a reload of the host's firewall does.
    const chain = `FN-${bench.paths.homeId}-FWD`;
    execFileSync('iptables', ['-w', '5', '-F', chain]);
    const next = createDockerDriver({
      paths: bench.paths,
      images,
      version: 'test',
      memoryBudgetMib: 2_048,
      cpuBudget: 64,
      egressPolicy: 'require-filter',
      log: silentLog,
    });
    try {
      await next.start();
      expect(await dial(listed, FAR.private, FAR.port)).toBe('said far');
      expect(await dial(listed, FAR.public, FAR.port)).toMatch(REFUSED);
    } finally {
      await next.close();
      await bench.driver.start();
    }
  });
});
