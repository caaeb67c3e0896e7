/**
 * Egress lists of instances, as networks and as hosts by name: rules of the firewall, and the addresses of each host in the
 * instance's own /etc/hosts. What a name stands for is asked for here and nowhere else (names.ts): the function gets exactly the
 * addresses that are let through, whatever a CDN answers to others, and asks no name server, which would be a way out by itself.
 */
import { closeSync, ftruncateSync, openSync, writeSync } from 'node:fs';
import { readFile, rename, writeFile } from 'node:fs/promises';
import { networkInterfaces } from 'node:os';
import { z } from 'zod';
import { egressParts } from '#contract/function.ts';
import type { Clock } from '#kit/clock.ts';
import type { Log } from '#kit/log.ts';
import { contains, NEVER, PRIVATE } from '../networks.ts';
import { DriverUnavailable, type HostsCheck } from '../types.ts';
import { isMissing, type Workspace } from '../workspace.ts';
import type { Firewall } from './firewall.ts';
import { messageOf } from './host.ts';
import type { InstanceFiles } from './instance.ts';
import { Names, type Lookup, type NameLimits, type SavedNames } from './names.ts';

/** What comes after it in /etc/hosts is ours. */
const MARK = '# fn: hosts of the egress list';
/** Nobody listens there: names that are not in /etc/hosts fail at once instead of after ten seconds. */
const NO_NAME_SERVER = 'nameserver 127.0.0.1\noptions timeout:1 attempts:1\n';

const Saved = z.record(z.string(), z.object({ current: z.array(z.ipv4()), old: z.array(z.ipv4()) }));
/** Beside an instance: its list, for the next controller. */
const Note = z.object({ networks: z.array(z.string()), hosts: z.array(z.string()).default([]) });

export interface ListedInstance {
  id: string;
  ip: string;
  files: InstanceFiles | null;
}

interface Listed extends ListedInstance {
  networks: string[];
  hosts: string[];
  /** /etc/hosts as the engine made it, and as it was last written. */
  base: string;
  written: string;
}

export interface ListsOptions {
  workspace: Workspace;
  firewall: Pick<Firewall, 'install' | 'allow' | 'change'>;
  /** Name servers that instances can ask, where their list has them. */
  nameservers: readonly string[];
  /** Where what is known of names is kept for the next controller. */
  savedPath: string;
  lookup: Lookup;
  clock: Clock;
  log: Log;
  limits?: Partial<NameLimits> | undefined;
}

export class Lists {
  readonly #options: ListsOptions;
  readonly #names: Names;
  readonly #listed = new Map<string, Listed>();

  constructor(options: ListsOptions) {
    this.#options = options;
    const { lookup, clock, log, limits } = options;
    this.#names = new Names({
      lookup,
      clock,
      log,
      limits,
      inUse: () => new Set([...this.#listed.values()].flatMap(({ hosts }) => hosts)),
      onChange: (changed) => this.#changed(changed),
    });
  }

  /** Puts in force what the notes beside instances say, with the addresses that an earlier controller knew. */
  async start(instances: ListedInstance[]): Promise<void> {
    const { workspace, firewall, log } = this.#options;
    for (const instance of instances) {
      const note = Note.safeParse(await workspace.readNote(instance.id, 'egress'));
      if (!note.success) continue;
      await this.#take(instance, note.data).catch((error: unknown) => {
        log.warn({ instance: instance.id, error: messageOf(error) }, 'of an egress list the networks are in force, the hosts are not');
        return this.#take(instance, { ...note.data, hosts: [] });
      });
    }
    this.#names.start(await this.#saved());
    const own = ownAddresses();
    await firewall.install([...this.#listed.values()].map((one) => ({ ...one, networks: this.#networksOf(one, own) })));
  }

  close(): void {
    this.#names.close();
  }

  /** Resolves when an instance can reach what is in its list, and nothing else. Empty: nothing at all. */
  async set(instance: ListedInstance, list: readonly string[]): Promise<void> {
    const { workspace, firewall } = this.#options;
    const parts = egressParts(list);
    const listed = await this.#take(instance, parts);
    // Written down first, so that a controller that starts after a crash puts the same rules back.
    await Promise.all([workspace.writeNote(instance.id, 'egress', parts), this.#names.ready(parts.hosts)]);
    if (this.#listed.get(instance.id) !== listed) throw new Error(`the instance ${instance.id} was killed while its egress was set`);
    await firewall.allow(instance.id, instance.ip, this.#networksOf(listed, ownAddresses()));
    this.#writeHosts(listed, ownAddresses());
    const asks = this.#options.nameservers.some((server) => listed.networks.some((network) => contains(network, server)));
    if (!asks) this.#leaveNobodyToAsk(listed);
  }

  forget(id: string): void {
    this.#listed.delete(id);
  }

  async check(hosts: readonly string[], networks: readonly string[]): Promise<HostsCheck> {
    await this.#names.ask(hosts);
    const own = ownAddresses();
    const check: HostsCheck = { refused: [], notes: [] };
    for (const network of networks) {
      const [address, bits = '32'] = network.split('/');
      if (bits === '32' && own.has(address!))
        check.notes.push(
          `${address} is an address of this machine: functions never reach what runs on it, listed or not (docs/security.md#egress).`,
        );
    }
    for (const host of hosts) {
      const { current, failure } = this.#names.of(host);
      const open = current.filter((address) => isOpen(address, networks, own));
      const closed = current.filter((address) => !open.includes(address)).join(', ');
      if (failure?.kind === 'missing')
        check.refused.push({ host, why: `there is no such host, or it has no IPv4 address (${failure.code})` });
      else if (failure !== null && current.length === 0)
        check.notes.push(`${host} cannot be looked up now (${failure.code}): the function cannot dial it until it can.`);
      else if (open.length === 0)
        check.refused.push({
          host,
          why: `it stands for ${closed}; a name opens public addresses only: list the network too where it is a private one`,
        });
      else if (closed !== '') check.notes.push(`Of ${host} these addresses stay closed, as a name opens public ones only: ${closed}.`);
    }
    return check;
  }

  async #take(instance: ListedInstance, { networks, hosts }: { networks: string[]; hosts: string[] }): Promise<Listed> {
    let base = '';
    if (hosts.length > 0) {
      try {
        if (instance.files === null) throw new Error('the engine names none');
        base = (await readFile(instance.files.hosts, 'utf8')).split(MARK)[0]!;
      } catch (error) {
        throw new DriverUnavailable(
          `Hosts in an egress list need the engine's own files on this machine (${messageOf(error)}): list networks instead.`,
          { cause: error },
        );
      }
    }
    const listed = { ...instance, networks, hosts, base, written: '' };
    this.#listed.set(instance.id, listed);
    return listed;
  }

  /** New addresses are let through before anybody is told of them. */
  async #changed(names: ReadonlySet<string>): Promise<void> {
    const { firewall, log, savedPath } = this.#options;
    const own = ownAddresses();
    const touched = () => [...this.#listed.values()].filter(({ hosts }) => hosts.some((host) => names.has(host)));
    await firewall.change(touched().map((listed) => ({ id: listed.id, networks: this.#networksOf(listed, own) })));
    for (const listed of touched()) {
      try {
        this.#writeHosts(listed, own);
      } catch (error) {
        // Its container may have gone a moment ago; the others are no less right.
        log.warn({ instance: listed.id, error: messageOf(error) }, 'the hosts of an instance could not be written');
      }
    }
    for (const name of names) {
      const lists = touched().filter(({ hosts }) => hosts.includes(name));
      const addresses = this.#names.of(name).current.filter((address) => lists.some(({ networks }) => !isOpen(address, networks, own)));
      if (addresses.length > 0)
        log.warn({ host: name, addresses }, 'a host of an egress list stands for addresses that a name does not open');
    }
    await writeFile(`${savedPath}.new`, JSON.stringify(this.#names.save()), { mode: 0o600 });
    await rename(`${savedPath}.new`, savedPath);
  }

  #networksOf({ networks, hosts }: Listed, own: ReadonlySet<string>): string[] {
    const addresses = hosts.flatMap((host) => this.#names.of(host).reachable).filter((address) => isOpen(address, networks, own));
    return [...networks, ...new Set(addresses.filter((address) => !networks.some((network) => contains(network, address))))];
  }

  /** In place: a mount is of the file, not of its path. */
  #writeHosts(listed: Listed, own: ReadonlySet<string>): void {
    if (listed.hosts.length === 0 || listed.files === null) return;
    const lines = listed.hosts.flatMap((host) =>
      this.#names
        .of(host)
        .current.filter((address) => isOpen(address, listed.networks, own))
        .map((address) => `${address}\t${host}\n`),
    );
    const text = `${listed.base}${MARK}\n${lines.join('')}`;
    if (text === listed.written) return;
    writeInPlace(listed.files.hosts, text);
    listed.written = text;
  }

  /** The rules keep it from name servers in any case: this is for names to fail at once. */
  #leaveNobodyToAsk({ id, hosts, files }: Listed): void {
    if (files === null) return;
    try {
      writeInPlace(files.resolvConf, NO_NAME_SERVER);
    } catch (error) {
      // Without hosts a list needs none of the engine's files, which may lie on another machine than this process.
      if (hosts.length > 0) throw error;
      this.#options.log.debug({ instance: id, error: messageOf(error) }, 'names that an instance may not ask for fail late');
    }
  }

  async #saved(): Promise<SavedNames> {
    const { savedPath, log } = this.#options;
    try {
      return Saved.parse(JSON.parse(await readFile(savedPath, 'utf8')));
    } catch (error) {
      if (!isMissing(error)) log.warn({ error: messageOf(error) }, 'what was known of hosts cannot be read: they are looked up anew');
      return {};
    }
  }
}

/**
 * Whether a name may open an address. Public ones: else whoever owns a name could point it into a private network (DNS
 * rebinding). Others only where the list has their network too, and what is never to be dialled not even then.
 */
function isOpen(address: string, networks: readonly string[], own: ReadonlySet<string>): boolean {
  if (own.has(address) || NEVER.some((network) => contains(network, address))) return false;
  return networks.some((network) => contains(network, address)) || !PRIVATE.some((network) => contains(network, address));
}

function ownAddresses(): ReadonlySet<string> {
  return new Set(Object.values(networkInterfaces()).flatMap((addresses) => (addresses ?? []).map(({ address }) => address)));
}

/** By one write, and cut to length after it: whoever reads meanwhile sees no half line of a shorter file. */
function writeInPlace(path: string, text: string): void {
  const file = openSync(path, 'r+');
  try {
    const bytes = Buffer.from(text);
    writeSync(file, bytes, 0, bytes.length, 0);
    ftruncateSync(file, bytes.length);
  } finally {
    closeSync(file);
  }
}
