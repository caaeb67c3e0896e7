/**
 * What an instance may dial: nothing, the internet, or what its list names. Held by rules of the firewall (firewall.ts), where this
 * process can change them; lists, with hosts by name, are in lists.ts.
 */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { systemClock } from '#kit/clock.ts';
import type { Log } from '#kit/log.ts';
import type { HomePaths } from '#kit/paths.ts';
import { DriverUnavailable, type DriverFeatures, type HostsCheck, type SpecialiseSpec } from '../types.ts';
import type { Workspace } from '../workspace.ts';
import type { Firewall } from './firewall.ts';
import { hostNameservers } from './host.ts';
import type { Known } from './instance.ts';
import { Lists } from './lists.ts';
import { systemLookup, type NameLimits } from './names.ts';

export interface EgressOptions {
  paths: HomePaths;
  workspace: Workspace;
  /** DNS servers of instances; default: those of the host. */
  nameservers?: string[];
  /** Who is asked for the hosts of egress lists (`192.0.2.1`, `192.0.2.1:5353`), and how often. Default: `nameservers`. */
  hostNames?: { servers?: string[]; limits?: Partial<NameLimits> };
  log: Log;
}

export class Egress {
  readonly #options: EgressOptions;
  readonly #savedPath: string;
  #firewall: Firewall | null = null;
  #lists: Lists | null = null;

  constructor(options: EgressOptions) {
    this.#options = options;
    this.#savedPath = join(options.paths.runDir, 'egress-hosts.json');
  }

  /** Rules for what runs already, from the notes beside the instances. `firewall`: null where this process cannot change it. */
  async start(firewall: Firewall | null, running: readonly Known[]): Promise<void> {
    this.#firewall = firewall;
    this.#lists?.close();
    this.#lists = null;
    if (!firewall) return;
    const { nameservers, hostNames, workspace, log } = this.#options;
    this.#lists = new Lists({
      workspace,
      firewall,
      nameservers: nameservers ?? (await hostNameservers()),
      savedPath: this.#savedPath,
      lookup: systemLookup(hostNames?.servers ?? nameservers),
      clock: systemClock,
      log,
      limits: hostNames?.limits,
    });
    await this.#lists.start(running.flatMap(({ id, ip, files }) => (ip === null ? [] : [{ id, ip, files }])));
  }

  close(): void {
    this.#lists?.close();
  }

  /** What was kept for the next controller goes, too. */
  async destroy(): Promise<void> {
    await rm(this.#savedPath, { force: true });
  }

  async check(hosts: readonly string[], networks: readonly string[], { egress }: DriverFeatures): Promise<HostsCheck> {
    if (this.#lists !== null) return this.#lists.check(hosts, networks);
    // Not filtered at all, which the deployment says; or by rules that this process cannot change.
    if (egress !== 'filtered') return { refused: [], notes: [] };
    return { refused: hosts.map((host) => ({ host, why: 'hosts in a list need a controller that runs as root' })), notes: [] };
  }

  /** Throws where an instance cannot have this egress, before anything was done to it. */
  assert({ id, network, ip }: Known, { egress }: SpecialiseSpec, features: DriverFeatures): void {
    if (network === 'none') {
      if (egress !== 'none') throw new Error(`the instance ${id} was created without a network`);
      return;
    }
    if (ip === null) throw new Error(`the instance ${id} has no address`);
    const rules = this.#firewall !== null || features.egress === 'unfiltered';
    if (!rules && egress !== 'internet') {
      throw new DriverUnavailable('Egress to a list needs a controller that runs as root; deploy with --egress internet or none.');
    }
  }

  async set({ id, network, ip, files }: Known, { egress }: SpecialiseSpec): Promise<void> {
    if (network === 'none' || ip === null || this.#firewall === null || this.#lists === null) return;
    if (egress === 'internet') return this.#firewall.release(ip);
    await this.#lists.set({ id, ip, files }, egress === 'none' ? [] : egress);
  }

  async forget(id: string): Promise<void> {
    this.#lists?.forget(id);
    await this.#firewall?.forget(id);
  }
}
