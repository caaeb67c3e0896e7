/** What functions can dial, tried from inside one. Root only, as the rules are. */
import { execFileSync } from 'node:child_process';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { networkInterfaces } from 'node:os';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { silentLog } from '#kit/log.ts';
import { createDockerDriver } from '../../controller/driver/docker/driver.ts';
import type { DriverInstance } from '../../controller/driver/types.ts';
import { findLeaks } from '../helpers/leaks.ts';
import { waitFor } from '../helpers/wait.ts';
import { runtimeImages } from './driver.image.ts';
import { call } from './driver.instance.ts';
import { FAR, NEAR, dialFromHere, makeFarSide } from './driver.netns.ts';
import { Bench, nothingLeft } from './driver.suite.ts';

const images = await runtimeImages();
const docker = (...args: string[]) => execFileSync('docker', args, { encoding: 'utf8' }).trim();

/** What a refusal looks like from inside: told at once, or nothing at all. */
const REFUSED = /^(?:EHOSTUNREACH|ENETUNREACH|ECONNREFUSED|EACCES|EPERM|timeout)$/;

describe('egress of the docker driver', () => {
  let bench: Bench;
  let removeFarSide: () => Promise<void> = () => Promise.resolve();
  let onHost: Server;
  let hostPort = 0;
  let neighbour = { container: '', address: '' };

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
        }),
    });

  beforeAll(async () => {
    removeFarSide = await makeFarSide();
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
    await removeFarSide();
    await nothingLeft(findLeaks, bench.paths);
  });

  it('has targets that answer, so that a refusal means something', async () => {
    for (const host of [FAR.public, FAR.private, FAR.linkLocal]) expect(await dialFromHere(host, FAR.port)).toBe('said far');
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
