import { describe, expect, it } from 'vitest';
import { containerOptions, type ContainerPlan } from './container.ts';

const plan: ContainerPlan = {
  homeId: '0a1b2c3d',
  id: 'i-abcdefghijkl',
  runtime: 'node',
  image: 'fn/node:1',
  program: null,
  version: '1',
  memoryClassMib: 256,
  network: 'none',
  sandbox: null,
  networkName: 'fn-0a1b2c3d',
  nonce: 'secret',
  sockDir: '/run/fn/0a1b2c3d/instances/i-abcdefghijkl/sock',
  codeDir: '/run/fn/0a1b2c3d/instances/i-abcdefghijkl/code',

  cgroupParent: '/fn-0a1b2c3d',
  cgroupVersion: 1,
  nameservers: ['9.9.9.9'],
};

describe('containerOptions', () => {
  it('is exactly the security floor, and nothing else', () => {
    expect(containerOptions(plan)).toEqual({
      name: 'fn-0a1b2c3d-i-abcdefghijkl',
      Image: 'fn/node:1',
      Cmd: ['--max-old-space-size=217', '/fn/shim.mjs'],
      Hostname: 'i-abcdefghijkl',
      User: '65532:65532',
      Env: ['FN_INSTANCE=i-abcdefghijkl', 'FN_NONCE=secret', 'FN_SOCKET=/fn/sock/s'],
      Labels: {
        'fn.home': '0a1b2c3d',
        'fn.instance': 'i-abcdefghijkl',
        'fn.runtime': 'node',
        'fn.class': '256',
        'fn.network': 'none',
        'fn.version': '1',
      },
      AttachStdin: false,
      AttachStdout: false,
      AttachStderr: false,
      OpenStdin: false,
      Tty: false,
      HostConfig: {
        AutoRemove: false,
        RestartPolicy: { Name: 'no' },
        Init: false,
        Privileged: false,
        CapDrop: ['ALL'],
        SecurityOpt: ['no-new-privileges:true'],
        ReadonlyRootfs: true,
        IpcMode: 'none',
        PublishAllPorts: false,
        NetworkMode: 'none',
        Mounts: [
          { Type: 'bind', Source: plan.sockDir, Target: '/fn/sock', ReadOnly: false, BindOptions: { Propagation: 'rprivate' } },
          { Type: 'bind', Source: plan.codeDir, Target: '/fn/code', ReadOnly: true, BindOptions: { Propagation: 'rprivate' } },
        ],
        Tmpfs: { '/tmp': 'rw,exec,nosuid,nodev,mode=1777,size=64m' },
        Memory: 268_435_456,
        MemorySwap: 268_435_456,
        MemorySwappiness: 0,
        PidsLimit: 256,
        Ulimits: [
          { Name: 'nofile', Soft: 1_024, Hard: 1_024 },
          { Name: 'core', Soft: 0, Hard: 0 },
          { Name: 'msgqueue', Soft: 0, Hard: 0 },
        ],
        OomScoreAdj: 500,
        CgroupParent: '/fn-0a1b2c3d',
        LogConfig: { Type: 'json-file', Config: { 'max-size': '2m', 'max-file': '2' } },
      },
    });
  });

  it('enters no folder that an image names: the shim does, which has nothing of the host', () => {
    const program = { shimFile: '/run/fn/0a1b2c3d/shims/binary-1', args: ['-dir', '/app', '--', '/app/server'], volumes: ['/data'] };
    const options = containerOptions({ ...plan, runtime: 'image', image: 'sha256:1', program });
    const { HostConfig: usual, Cmd: _boot, Image: _image, Labels: labels, ...floor } = containerOptions(plan);
    expect(options).toEqual({
      ...floor,
      Image: 'sha256:1',
      Entrypoint: ['/fn/shim'],
      Cmd: program.args,
      WorkingDir: '/',
      Healthcheck: { Test: ['NONE'] },
      Labels: { ...labels, 'fn.runtime': 'image', 'fn.image': 'sha256:1' },
      HostConfig: {
        ...usual,
        Mounts: [
          ...(usual?.Mounts ?? []),
          { Type: 'bind', Source: program.shimFile, Target: '/fn/shim', ReadOnly: true, BindOptions: { Propagation: 'rprivate' } },
        ],
        Tmpfs: { ...usual?.Tmpfs, '/data': usual?.Tmpfs?.['/tmp'] },
      },
    });
  });

  it('sets no CPU limit: booting is not throttled, the quota comes with the code', () => {
    const names = Object.keys(containerOptions(plan).HostConfig ?? {});
    expect(names.filter((name) => /cpu/i.test(name))).toEqual([]);
  });

  it('joins the bridge, with its name servers, only in the class egress', () => {
    const egress = containerOptions({ ...plan, network: 'egress' }).HostConfig;
    expect(egress?.NetworkMode).toBe('fn-0a1b2c3d');
    expect(egress?.Dns).toEqual(['9.9.9.9']);
    expect(containerOptions({ ...plan, network: 'egress', nameservers: [] }).HostConfig).not.toHaveProperty('Dns');
  });

  it('leaves out what cgroup version 2 does not know, and the parent where there is none', () => {
    const config = containerOptions({ ...plan, cgroupVersion: 2, cgroupParent: '' }).HostConfig;
    expect(config).not.toHaveProperty('MemorySwappiness');
    expect(config).not.toHaveProperty('CgroupParent');
  });

  it('gives larger classes more files and a larger /tmp', () => {
    const config = containerOptions({ ...plan, memoryClassMib: 1_024 }).HostConfig;
    expect(config?.Ulimits?.[0]).toEqual({ Name: 'nofile', Soft: 4_096, Hard: 4_096 });
    expect(config?.Tmpfs).toEqual({ '/tmp': 'rw,exec,nosuid,nodev,mode=1777,size=256m' });
  });
});
