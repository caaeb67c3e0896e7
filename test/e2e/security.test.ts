/** The security floor, told by a function that looks at itself and tries to get out. Docker, as root. */
import { createServer } from 'node:http';
import { networkInterfaces } from 'node:os';
import { execa } from 'execa';
import { beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { usePlatform } from '../helpers/suite.ts';

const CHECK = 'test/e2e/fixtures/self-check.ts';
/** Without root there is neither a filter to try nor a network namespace to dial; test/conformance/driver.host-setup tries what there is. */
const isRoot = process.getuid?.() === 0;

interface Report {
  uid: number;
  gid: number;
  groups: number[];
  capabilities: Record<string, string>;
  noNewPrivs: string;
  seccomp: string;
  mounts: string[];
  limits: string;
  interfaces: Record<string, { address: string; internal: boolean }[]>;
  environment: string[];
  shells: string[];
  dockerSockets: string[];
  writes: Record<string, string>;
  shell: string;
  tmpMode: string;
  processes: number;
}

/** A server in a network namespace of its own, behind a veth pair: "the outside", without the internet. */
async function outside(address: string, hostAddress: string) {
  const name = `fnt${process.pid % 10_000}`;
  const ip = (...args: string[]) => execa('ip', args);
  await ip('netns', 'add', name);
  onTestFinished(async () => {
    await execa('ip', ['netns', 'del', name], { reject: false });
    await execa('ip', ['link', 'del', `${name}h`], { reject: false });
  });
  await ip('link', 'add', `${name}h`, 'type', 'veth', 'peer', 'name', `${name}n`);
  await ip('link', 'set', `${name}n`, 'netns', name);
  await ip('addr', 'add', `${hostAddress}/30`, 'dev', `${name}h`);
  await ip('link', 'set', `${name}h`, 'up');
  await ip('netns', 'exec', name, 'ip', 'addr', 'add', `${address}/30`, 'dev', `${name}n`);
  await ip('netns', 'exec', name, 'ip', 'link', 'set', `${name}n`, 'up');
  await ip('netns', 'exec', name, 'ip', 'link', 'set', 'lo', 'up');
  await ip('netns', 'exec', name, 'ip', 'route', 'add', 'default', 'via', hostAddress);
  const server = execa(
    'ip',
    [
      'netns',
      'exec',
      name,
      process.execPath,
      '-e',
      `require('node:http').createServer((q, s) => s.end('outside')).listen(8077, () => console.log('up'))`,
    ],
    {
      reject: false,
    },
  );
  onTestFinished(() => {
    server.kill('SIGKILL');
  });
  await new Promise<void>((resolve) => server.stdout.once('data', () => resolve()));
}

describe('security floor (docker)', () => {
  const platform = usePlatform({ driver: 'docker' });
  let report: Report;
  beforeAll(async () => {
    await platform().deploy('check', CHECK, { flags: ['--memory', '128', '--timeout', '30'] });
    report = (await platform().call('/check')).json<Report>();
  });
  const dial = async (name: string, targets: object[]) =>
    (await platform().call(`/${name}/dial`, { method: 'POST', body: JSON.stringify(targets) })).json<string[]>();

  it('runs as nobody in particular, without capabilities, privileges or other groups', () => {
    expect(report.uid).toBe(65532);
    expect(report.gid).toBe(65532);
    expect(report.groups.filter((group) => group !== 65532)).toEqual([]);
    for (const set of ['effective', 'permitted', 'bounding', 'ambient'])
      expect([set, report.capabilities[set]]).toEqual([set, '0000000000000000']);
    expect(report.noNewPrivs).toBe('1');
    expect(report.seccomp).toBe('2');
  });

  it('has a read-only root, a sized /tmp and nothing else to write to', () => {
    const root = report.mounts.find((mount) => mount.split(' ')[1] === '/')!;
    expect(root.split(' ')[3]!.split(',')).toContain('ro');
    const tmp = report.mounts.find((mount) => mount.split(' ')[1] === '/tmp')!;
    expect(tmp).toMatch(/^tmpfs .*\bnosuid\b/);
    expect(tmp).toMatch(/size=32768k/);
    expect(report.tmpMode).toBe('1777');
    expect(report.writes.tmp).toBe('done');
    for (const place of ['root', 'etc']) expect(report.writes[place]).toMatch(/EROFS|EACCES/);
    expect(report.writes.socketFolder).not.toBe('done');
  });

  it('finds no shell, no package manager, no Docker socket, no other process', () => {
    expect(report.shells).toEqual([]);
    expect(report.shell).toBe('ENOENT');
    expect(report.dockerSockets).toEqual([]);
    expect(report.processes).toBeLessThanOrEqual(3);
    expect(report.mounts.filter((mount) => /docker\.sock|\/link\/|\/control\//.test(mount))).toEqual([]);
  });

  it('has limits on files and processes, and no nonce in its environment', () => {
    expect(/Max open files\s+(\d+)/.exec(report.limits)?.[1]).toBe('1024');
    expect(report.environment).not.toContain('FN_NONCE');
    expect(report.environment.filter((name) => /TOKEN|SECRET|DOCKER/i.test(name))).toEqual([]);
  });

  it('the container itself is as bare as the function says', async () => {
    const instance = (await platform().instances('check'))[0]!;
    const { stdout } = await execa('docker', ['inspect', instance.handle!]);
    const [inspected] = JSON.parse(stdout) as { HostConfig: Record<string, unknown>; Config: Record<string, unknown> }[];
    expect(inspected!.HostConfig).toMatchObject({ Privileged: false, ReadonlyRootfs: true, CapDrop: ['ALL'], PortBindings: {} });
    expect(inspected!.HostConfig.CapAdd ?? []).toEqual([]);
    expect(JSON.stringify(inspected!.HostConfig.SecurityOpt)).toMatch(/no-new-privileges/);
    const { Memory, MemorySwap, PidsLimit } = inspected!.HostConfig as Record<string, number>;
    expect(Memory).toBe(128 * 1024 * 1024);
    expect(MemorySwap).toBe(Memory);
    expect(PidsLimit).toBeGreaterThan(0);
    expect(PidsLimit).toBeLessThan(1_000);
  });

  it('what a deployment passes in env is not in docker inspect', async () => {
    const canary = 'canary-5f1c9e';
    await platform().deploy('secretive', CHECK, { flags: ['--env', `KEY=${canary}`] });
    await platform().call('/secretive');
    const instance = (await platform().instances('secretive'))[0]!;
    expect((await execa('docker', ['inspect', instance.handle!])).stdout).not.toContain(canary);
  });

  it('cannot dial the host, the platform, link-local, private ranges or the engine', async () => {
    const host = createServer((_, response) => response.end('host')).listen(0, '0.0.0.0');
    try {
      const address = host.address();
      const port = typeof address === 'object' && address !== null ? address.port : 0;
      const hostAddresses = Object.values(networkInterfaces())
        .flatMap((list) => list ?? [])
        .filter(({ family, internal }) => family === 'IPv4' && !internal)
        .map(({ address: ip }) => ip);
      const targets = [
        ...hostAddresses.flatMap((ip) => [
          { host: ip, port },
          { host: ip, port: platform().port },
          { host: ip, port: 2375 },
        ]),
        { host: '127.0.0.1', port },
        { host: '169.254.169.254', port: 80 },
        { host: '169.254.1.1', port },
        { host: '10.0.0.1', port: 80 },
        { host: '192.168.0.1', port: 80 },
        { host: '172.17.0.1', port },
        { host: '::1', port },
        { host: 'fe80::1', port },
        { path: '/var/run/docker.sock' },
        { path: `${platform().runDir}/control/s` },
        { path: `${platform().runDir}/link/s` },
      ];
      const answers = await dial('check', targets);
      expect(targets.filter((_, index) => answers[index] === 'open')).toEqual([]);
    } finally {
      host.close();
    }
  });

  it('cannot dial another instance', async () => {
    await platform().deploy('other', CHECK, { flags: ['--timeout', '30'] });
    const { interfaces } = (await platform().call('/other/listen')).json<{ interfaces: Report['interfaces'] }>();
    const addresses = Object.values(interfaces)
      .flat()
      .filter(({ internal, address }) => !internal && !address.includes(':'))
      .map(({ address }) => address);
    const answers = await dial('check', [...addresses.map((host) => ({ host, port: 8099 })), { host: '127.0.0.1', port: 8099 }]);
    expect(answers).not.toContain('open');
  });

  // The outside is a network namespace with public addresses of its own, and only root can make one.
  it.runIf(isRoot)('can call out: to a public address by default, to a private one only if listed', async () => {
    const { features } = await platform().status();
    expect(features.egress).toBe('filtered');
    // TEST-NET-like addresses would be private to some rules; 203.0.114.0/24 is plain public space.
    await outside('203.0.114.2', '203.0.114.1');
    expect(await dial('check', [{ host: '203.0.114.2', port: 8077 }])).toEqual(['open']);
    expect(await dial('check', [{ host: '203.0.114.1', port: platform().port }])).not.toEqual(['open']);
    await platform().deploy('closed', CHECK, { flags: ['--egress', 'none'] });
    expect(await dial('closed', [{ host: '203.0.114.2', port: 8077 }])).not.toEqual(['open']);
    await platform().deploy('listed', CHECK, { flags: ['--egress', '198.18.0.0/30'] });
    expect(await dial('listed', [{ host: '203.0.114.2', port: 8077 }])).not.toEqual(['open']);
  });

  // As above: only root can make the private network.
  it.runIf(isRoot)('a listed private network is reached, and only that', async () => {
    await outside('10.213.7.2', '10.213.7.1');
    await platform().deploy('private', CHECK, { flags: ['--egress', '10.213.7.2/32'] });
    expect(await dial('check', [{ host: '10.213.7.2', port: 8077 }])).not.toEqual(['open']);
    expect(
      await dial('private', [
        { host: '10.213.7.2', port: 8077 },
        { host: '10.213.7.1', port: platform().port },
      ]),
    ).toEqual(['open', expect.not.stringMatching(/^open$/)]);
  });
});
