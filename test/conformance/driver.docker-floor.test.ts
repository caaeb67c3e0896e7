/** The security floor, limits, and what Docker alone can do, on real containers. */
import { execFileSync } from 'node:child_process';
import { chmodSync, lstatSync, rmSync, statSync } from 'node:fs';
import { createServer, connect, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { silentLog } from '#kit/log.ts';
import { createDockerDriver, type DockerDriverOptions } from '../../controller/driver/docker/driver.ts';
import { LimitBusy } from '../../controller/driver/types.ts';
import { findLeaks } from '../helpers/leaks.ts';
import { waitFor } from '../helpers/wait.ts';
import { runtimeImages } from './driver.image.ts';
import { call } from './driver.instance.ts';
import { Bench, nothingLeft } from './driver.suite.ts';

const images = await runtimeImages();
const docker = (...args: string[]) => execFileSync('docker', args, { encoding: 'utf8' }).trim();

function makeBench(fields: Partial<DockerDriverOptions> = {}): Bench {
  return new Bench({
    make: (paths) =>
      createDockerDriver({
        paths,
        images,
        version: 'test',
        memoryBudgetMib: 2_048,
        cpuBudget: 64,
        egressPolicy: 'require-filter',
        log: silentLog,
        ...fields,
      }),
  });
}

describe('the docker driver', () => {
  let bench: Bench;
  beforeAll(async () => {
    bench = makeBench();
    await bench.driver.start();
  });
  afterEach(() => bench.killAll());
  afterAll(async () => {
    await bench.dispose();
    await nothingLeft(findLeaks, bench.paths);
  });

  it('gives every instance the security floor, as it is seen from inside', async () => {
    const instance = await bench.run();
    const self = JSON.parse((await call(instance, '/self')).body) as {
      status: string;
      limits: string;
      mounts: string;
      env: Record<string, string>;
    };
    const status = new Map(self.status.split('\n').map((line) => line.split(':\t') as [string, string]));
    expect(status.get('Uid')).toBe('65532\t65532\t65532\t65532');
    expect(status.get('Gid')).toBe('65532\t65532\t65532\t65532');
    for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb']) expect(Number.parseInt(status.get(set)!, 16)).toBe(0);
    expect(status.get('NoNewPrivs')).toBe('1');
    expect(status.get('Seccomp')).toBe('2');
    expect(self.limits).toMatch(/Max open files +1024 +1024/);
    expect(self.limits).toMatch(/Max core file size +0 +0/);
    const mounts = self.mounts.split('\n').map((line) => line.split(' '));
    const optionsOf = (target: string) => mounts.findLast((mount) => mount[1] === target)?.[3]?.split(',') ?? [];
    expect(optionsOf('/')).toContain('ro');
    expect(optionsOf('/fn/code')).toContain('ro');
    expect(optionsOf('/tmp')).toEqual(expect.arrayContaining(['rw', 'nosuid', 'nodev', 'size=32768k']));
    expect(mounts.map((mount) => mount[1])).not.toContain('/dev/shm');
    expect(self.mounts).not.toContain('docker.sock');
    // What the shim was started with is not for the function, the nonce least of all.
    for (const name of ['FN_INSTANCE', 'FN_NONCE', 'FN_SOCKET']) expect(self.env).not.toHaveProperty(name);
  });

  it('shows it in docker inspect, with its labels', async () => {
    const { instance } = await bench.boot({ memoryClassMib: 256 });
    const [container] = JSON.parse(docker('inspect', instance.handle)) as [
      { Config: { Labels: object }; HostConfig: object; NetworkSettings: { Ports: object } },
    ];
    expect(container.HostConfig).toMatchObject({
      CapDrop: ['ALL'],
      ReadonlyRootfs: true,
      Privileged: false,
      NetworkMode: 'none',
      PidsLimit: 256,
      Memory: 268_435_456,
      MemorySwap: 268_435_456,
      OomScoreAdj: 500,
    });
    expect(container.Config.Labels).toMatchObject({
      'fn.home': bench.paths.homeId,
      'fn.instance': instance.id,
      'fn.class': '256',
      'fn.network': 'none',
      'fn.version': 'test',
    });
    expect(container.NetworkSettings.Ports).toEqual({});
  });

  it('takes the socket from the instance: sealed, it can neither replace nor join it', async () => {
    const instance = await bench.run();
    expect(JSON.parse((await call(instance, '/steal')).body)).toEqual(['EACCES', 'EEXIST', 'EACCES', 'EROFS']);
    const sock = join(bench.paths.instances, instance.id, 'sock');
    expect(lstatSync(join(sock, 's')).isSocket()).toBe(true);
    expect(statSync(sock).mode & 0o777).toBe(0o711);
    expect(statSync(sock).uid).toBe(0);
  });

  it('holds it to the memory that was deployed, below its class', async () => {
    const instance = await bench.run({ memoryClassMib: 256, memoryMib: 160 });
    expect((await call(instance, '/eat?mib=60')).status).toBe(200);
    await expect(call(instance, '/eat?mib=200')).rejects.toThrow();
    expect(await bench.endOf(instance.id)).toMatchObject([{ cause: 'oom' }]);
  });

  it('says so when what is in use does not fit, instead of killing it', async () => {
    const { instance, nonce } = await bench.boot();
    const spec = { bundleDir: bench.bundleDir, memoryMib: 8, cpu: 1, egress: 'none' as const, revision: 'default/suite@1', nonce };
    await expect(bench.driver.specialise(instance.id, spec)).rejects.toBeInstanceOf(LimitBusy);
    expect((await call(instance, '/.fn/health')).status).toBe(200);
    expect(bench.exits).toEqual([]);
  });

  it('holds it to its share of a CPU', async () => {
    const instance = await bench.run({ cpu: 0.25 });
    const stat = docker('inspect', '-f', '{{.State.Pid}}', instance.handle);
    const group = execFileSync('cat', [`/proc/${stat}/cgroup`], { encoding: 'utf8' });
    expect(group).toContain(`fn-${bench.paths.homeId}`);
    // More than a quarter of a core is not to be had: it is held back, as often as it has the processor to spin on at all.
    await waitFor('it to be held back', async () => {
      await call(instance, '/spin?ms=1000');
      return throttled(group) > 0;
    });
    const { body } = await call(instance, '/self');
    expect(JSON.parse(body)).toHaveProperty('status');
  });

  it('kills what an earlier controller froze', async () => {
    const instance = await bench.run();
    await bench.driver.freeze(instance.id);
    await bench.driver.close();
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
      await next.kill(instance.id);
      expect(await next.list()).toEqual([]);
    } finally {
      await next.close();
      await bench.driver.start();
    }
  });

  it('says that the engine is not there, and what to do', async () => {
    const lost = makeBench({ socketPath: join(bench.root, 'no.sock') });
    await expect(lost.driver.start()).rejects.toThrow(/no Docker engine.*apt-get install docker.io/s);
    rmSync(lost.root, { recursive: true, force: true });
  });

  it('says that the image is not there, and leaves nothing', async () => {
    const other = makeBench({ images: { absent: 'fn/absent:never' } });
    await other.driver.start();
    try {
      expect(await other.driver.runtimes()).toEqual([]);
      await expect(other.driver.create({ ...other.spec(), runtime: 'absent' }, new AbortController().signal)).rejects.toThrow(
        /fn runtimes build absent/,
      );
      expect(await other.driver.list()).toEqual([]);
    } finally {
      await other.dispose();
    }
    expect(await findLeaks(other.paths)).toEqual([]);
  });

  it('takes the newest image of a runtime where the one of this build is not made yet', async () => {
    const other = makeBench({ images: { node: 'fn/node:never' } });
    await other.driver.start();
    try {
      expect(await other.driver.runtimes()).toEqual([
        {
          name: 'node',
          version: process.versions.node,
          image: expect.stringMatching(/^fn\/node:[0-9a-f]{12}$/) as string,
          note: expect.stringMatching(/^The runtime node .*: fn runtimes build node /) as string,
        },
      ]);
    } finally {
      await other.dispose();
    }
  });

  it('does not touch containers that are not its own, however they are named', async () => {
    const names = ['foreign', `fn-${bench.paths.homeId}-foreign`].map((name) => `${name}-${process.pid}`);
    for (const name of names)
      docker('run', '-d', '--name', name, '--entrypoint', 'node', images.node!, '-e', 'setInterval(() => {}, 1000)');
    try {
      const other = makeBench();
      await other.driver.start();
      await other.dispose();
      expect(await bench.driver.list()).toEqual([]);
      for (const name of names) expect(docker('inspect', '-f', '{{.State.Running}}', name)).toBe('true');
    } finally {
      docker('rm', '-f', ...names);
    }
  });
});

/** Periods in which a group was held back. */
function throttled(procCgroup: string): number {
  const path = /^\d+:(?:cpu|cpu,cpuacct|):(.*)$/m.exec(procCgroup)![1]!;
  const roots = ['/sys/fs/cgroup/cpu', '/sys/fs/cgroup/cpu,cpuacct', '/sys/fs/cgroup'];
  for (const root of roots) {
    try {
      const text = execFileSync('cat', [join(root, path, 'cpu.stat')], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
      return Number(/^nr_throttled (\d+)$/m.exec(text)![1]);
    } catch {
      continue; // Mounted elsewhere.
    }
  }
  throw new Error('cpu.stat is nowhere');
}

describe('the budget of all instances', () => {
  it('an OOM of the parent cgroup is not the fault of the function it hits', async () => {
    // 64 MiB of reserve and 64 of budget: far less than either may use by itself.
    const bench = makeBench({ memoryBudgetMib: 64 });
    await bench.driver.start();
    try {
      expect(bench.driver.features.parentCgroup).toBe(true);
      const [one, two] = [await bench.run({ memoryClassMib: 512 }), await bench.run({ memoryClassMib: 512 })];
      const eaten = await Promise.allSettled([call(one, '/eat?mib=128'), call(two, '/eat?mib=128')]);
      expect(eaten.some(({ status }) => status === 'rejected')).toBe(true);
      await waitFor('the end', () => bench.exits.length > 0);
      for (const exit of bench.exits) expect(exit.cause).toBe('lost');
    } finally {
      await bench.dispose();
    }
    expect(await findLeaks(bench.paths)).toEqual([]);
  });
});

describe('an engine that goes away', () => {
  /** The engine behind a door that can be shut. */
  async function door(path: string): Promise<{ shut: () => void; open: () => Promise<void>; close: () => void }> {
    const sockets = new Set<Socket>();
    const keep = (socket: Socket) => {
      sockets.add(socket);
      socket.on('close', () => sockets.delete(socket)).on('error', () => socket.destroy());
      return socket;
    };
    let server: Server;
    const open = async () => {
      server = createServer(
        (client) =>
          void keep(client)
            .pipe(keep(connect('/var/run/docker.sock')))
            .pipe(client),
      );
      await new Promise<void>((resolve) => server.listen(path, resolve));
      chmodSync(path, 0o600);
    };
    await open();
    const shut = () => {
      server.close();
      for (const socket of sockets) socket.destroy();
    };
    return { shut, open, close: shut };
  }

  it('reports once what ended meanwhile, goes on with logs, and works again', async () => {
    const folder = makeBench();
    const socketPath = join(folder.root, 'engine.sock');
    const engine = await door(socketPath);
    const bench = makeBench({ socketPath });
    try {
      await bench.driver.start();
      const [dies, lives] = [await bench.run(), await bench.run()];
      const abort = new AbortController();
      let text = '';
      const reading = (async () => {
        for await (const chunk of bench.driver.logs(lives.id, null, abort.signal)) text += chunk.data.toString('utf8');
      })();
      await call(lives, '/log?text=text-1');
      await waitFor('the first line', () => text.includes('text-1'));

      engine.shut();
      await expect(bench.driver.create(bench.spec(), new AbortController().signal)).rejects.toThrow(/Docker engine/);
      docker('kill', dies.handle);
      await call(lives, '/log?text=text-2');
      await engine.open();

      expect(await bench.endOf(dies.id)).toMatchObject([{ cause: 'lost' }]);
      await waitFor('the second line', () => text.includes('text-2'));
      expect(text.match(/text-\d/g)).toEqual(['text-1', 'text-2']);
      abort.abort();
      await reading;
      await bench.run();
      expect(bench.exits).toHaveLength(1);
    } finally {
      await bench.dispose();
      engine.close();
      rmSync(folder.root, { recursive: true, force: true });
    }
    expect(await findLeaks(bench.paths)).toEqual([]);
  });
});
