import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { networkInterfaces, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { VirtualClock } from '#kit/clock.ts';
import { silentLog } from '#kit/log.ts';
import { Workspace } from '../workspace.ts';
import { Lists, type ListedInstance, type ListsOptions } from './lists.ts';

const NAME_SERVER = '10.255.0.53';
const AS_THE_ENGINE_MADE_IT = 'nameserver 127.0.0.11\noptions ndots:0\n';

describe('egress lists', () => {
  let dir: string;
  let allowed: Map<string, string[]>;
  let lists: Lists;
  let instance: ListedInstance;

  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'fn-lists-'));
    const workspace = new Workspace({ runDir: dir, instances: join(dir, 'instances') });
    await mkdir(workspace.dir('i-1'), { recursive: true });
    const files = { hosts: join(dir, 'hosts'), resolvConf: join(dir, 'resolv.conf') };
    await writeFile(files.hosts, '127.0.0.1\tlocalhost\n');
    await writeFile(files.resolvConf, AS_THE_ENGINE_MADE_IT);
    instance = { id: 'i-1', ip: '172.30.0.2', files };
    allowed = new Map();
    const firewall: ListsOptions['firewall'] = {
      install: () => Promise.resolve(),
      allow(id, _ip, networks) {
        allowed.set(id, networks);
        return Promise.resolve();
      },
      change: () => Promise.resolve(),
    };
    lists = new Lists({
      workspace,
      firewall,
      nameservers: [NAME_SERVER],
      savedPath: join(dir, 'saved.json'),
      lookup: () => Promise.resolve([{ address: '203.0.113.1', ttl: 30 }]),
      clock: new VirtualClock(),
      log: silentLog,
    });
    await lists.start([]);
  });
  afterEach(async () => {
    lists.close();
    await rm(dir, { recursive: true, force: true });
  });
  const resolvConf = () => readFile(join(dir, 'resolv.conf'), 'utf8');

  it('with hosts: their addresses are in /etc/hosts and let through, and there is nobody to ask for others', async () => {
    await lists.set(instance, ['api.example.com', '10.1.2.0/24']);
    expect(allowed.get('i-1')).toEqual(['10.1.2.0/24', '203.0.113.1']);
    expect(await readFile(join(dir, 'hosts'), 'utf8')).toContain('203.0.113.1\tapi.example.com\n');
    expect(await resolvConf()).toContain('nameserver 127.0.0.1\n');
  });

  it.each([
    ['networks alone', ['10.1.2.0/24']],
    ['nothing at all', []],
  ])('of %s: names are not found at once, where asking would take the resolver’s ten seconds', async (_what, list) => {
    await lists.set(instance, list);
    expect(allowed.get('i-1')).toEqual(list);
    expect(await resolvConf()).toContain('nameserver 127.0.0.1\n');
  });

  it('of networks alone is in force where the engine’s files are out of reach, too', async () => {
    await rm(join(dir, 'resolv.conf'));
    await lists.set(instance, ['10.1.2.0/24']);
    expect(allowed.get('i-1')).toEqual(['10.1.2.0/24']);
    await expect(lists.set(instance, ['api.example.com'])).rejects.toThrow(/ENOENT/);
  });

  it('says before a deployment that the machine’s own addresses stay closed', async () => {
    const own = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? []);
    const here = own.filter(({ family }) => family === 'IPv4').map(({ address }) => address);
    expect(here).not.toEqual([]);
    const { refused, notes } = await lists.check([], ['10.1.2.0/24', ...here.map((address) => `${address}/32`), here[0]!]);
    expect(refused).toEqual([]);
    expect(notes).toEqual([...here, here[0]].map((address) => expect.stringContaining(`${address} is an address of this machine`)));
  });

  it('that has the name server: it can be asked', async () => {
    await lists.set(instance, ['10.255.0.0/16']);
    expect(await resolvConf()).toBe(AS_THE_ENGINE_MADE_IT);
  });
});
