/** Puts egress rules into the kernel, keeps them there, takes them out. Needs root. */
import { execFile, spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import type { Log } from '#kit/log.ts';
import { isMissing } from '../workspace.ts';
import { chainsIn, chainsOf, inForce, jumps, renderRules, type EgressRules } from './egress.ts';

const run = promisify(execFile);

/** How long iptables waits for others that use it, seconds, and how long it may take at all, ms. */
const LOCK_WAIT_SECONDS = '5';
const IPTABLES_TIMEOUT_MS = 10_000;
/** iptables-save of a host with many rules, bytes. */
const MAX_SAVE_BYTES = 64 * 1024 * 1024;

/** Why egress cannot be filtered on this host, or null where it can: rules like ours are tried out, and gone again. */
export async function whyNoFirewall(homeId: string): Promise<string | null> {
  if (process.getuid?.() !== 0) return 'the rules need root';
  const trial = { homeId: `${homeId}-TRY`, bridge: 'fn-try', nameservers: ['192.0.2.1'], lists: [] };
  const chains = Object.values(chainsOf(trial.homeId)).slice(0, 2);
  const clearing = [...chains.map((chain) => `-F ${chain}`), ...chains.map((chain) => `-X ${chain}`)];
  try {
    await restore(renderRules(trial).replace('COMMIT', [...clearing, 'COMMIT'].join('\n')));
    return null;
  } catch (error) {
    return isMissing(error)
      ? 'iptables is not installed'
      : `iptables does not work here (${error instanceof Error ? error.message : String(error)})`;
  }
}

/** Whether packets between containers of one bridge pass through iptables at all. True only once Docker made a bridge that needs it. */
export async function bridgeIsFiltered(): Promise<boolean> {
  try {
    return (await readFile('/proc/sys/net/bridge/bridge-nf-call-iptables', 'utf8')).trim() === '1';
  } catch (error) {
    if (isMissing(error)) return false;
    throw error;
  }
}

export interface FirewallOptions {
  homeId: string;
  bridge: string;
  nameservers: string[];
  log: Log;
}

export class Firewall {
  readonly #options: FirewallOptions;
  /** Instances with a list of networks, by id. */
  readonly #lists = new Map<string, { ip: string; networks: string[] }>();
  /** Chains of ours that the kernel has, as far as is known: to ask costs as much as to change. */
  #chains = new Set<string>();
  /** The change under way, and the one that will take up all that were asked for meanwhile. */
  #running: Promise<void> | null = null;
  #next: Promise<void> | null = null;

  constructor(options: FirewallOptions) {
    this.#options = options;
  }

  get #rules(): EgressRules {
    const { homeId, bridge, nameservers } = this.#options;
    return { homeId, bridge, nameservers, lists: [...this.#lists].map(([id, list]) => ({ id, ...list })) };
  }

  /** Puts the rules in force, with what `lists` says about instances that run already. */
  async install(lists: { id: string; ip: string; networks: string[] }[]): Promise<void> {
    this.#lists.clear();
    for (const { id, ip, networks } of lists) this.#lists.set(id, { ip, networks: networks.map(canonical) });
    this.#chains = new Set(chainsIn(await save(), this.#options.homeId));
    await this.#apply();
    await this.#jump();
  }

  /** Resolves when this instance can reach those networks and no others. An address belongs to one instance at a time. */
  async allow(id: string, ip: string, networks: string[]): Promise<void> {
    this.#dropAddress(ip);
    this.#lists.set(id, { ip, networks: networks.map(canonical) });
    await this.#apply();
  }

  /**
   * Resolves when these instances can reach those networks and no others. Those that have no list (any more) are left as they
   * are. Where it rejects, check() puts right what is not in force.
   */
  async change(changes: { id: string; networks: string[] }[]): Promise<void> {
    let changed = false;
    for (const { id, networks } of changes) {
      const list = this.#lists.get(id);
      const next = networks.map(canonical);
      if (list === undefined || list.networks.join() === next.join()) continue;
      this.#lists.set(id, { ip: list.ip, networks: next });
      changed = true;
    }
    if (changed) await this.#apply();
  }

  /** Resolves when an address is of the default class: whatever an instance before it was allowed is gone. */
  async release(ip: string): Promise<void> {
    if (this.#dropAddress(ip)) await this.#apply();
  }

  /** Forgets an instance. */
  async forget(id: string): Promise<void> {
    if (this.#lists.delete(id)) await this.#apply();
  }

  /** Puts back what a reload of the host's firewall threw out. */
  async check(): Promise<void> {
    const saved = await save();
    if (inForce(saved, this.#rules, chainBase(saved))) return;
    this.#chains = new Set(chainsIn(saved, this.#options.homeId));
    this.#options.log.warn({ home: this.#options.homeId }, 'the egress rules were gone, by a reload of the firewall: put back');
    await this.#apply();
    await this.#jump();
  }

  async remove(): Promise<void> {
    await removeFirewall(this.#options.homeId, this.#options.bridge);
    this.#lists.clear();
  }

  #dropAddress(ip: string): boolean {
    let dropped = false;
    for (const [id, list] of this.#lists) if (list.ip === ip) dropped = this.#lists.delete(id) || dropped;
    return dropped;
  }

  /** One change at a time; those asked for while one runs share the next. */
  #apply(): Promise<void> {
    if (!this.#running) {
      this.#running = this.#applyNow().finally(() => (this.#running = null));
      return this.#running;
    }
    this.#next ??= this.#running
      .catch(() => {}) // Told to whoever asked for that one.
      .then(() => {
        this.#next = null;
        return this.#apply();
      });
    return this.#next;
  }

  async #applyNow(): Promise<void> {
    const rules = this.#rules;
    const wanted = chainsIn(renderRules(rules), rules.homeId);
    const obsolete = [...this.#chains].filter((chain) => !wanted.includes(chain));
    try {
      await restore(renderRules(rules, obsolete));
      this.#chains = new Set(wanted);
    } catch (error) {
      // What is there is not what was believed, as after a reload of the firewall: look, and once more.
      this.#chains = new Set(chainsIn(await save(), rules.homeId));
      await restore(
        renderRules(
          rules,
          [...this.#chains].filter((chain) => !wanted.includes(chain)),
        ),
      );
      this.#options.log.debug(
        { error: error instanceof Error ? error.message : String(error) },
        'the egress rules were applied at the second attempt',
      );
      this.#chains = new Set(wanted);
    }
  }

  async #jump(): Promise<void> {
    const saved = await save();
    const insert = jumps(this.#options, chainBase(saved)).map(({ chain, rule }) => `-I ${chain} 1 ${rule.join(' ')}`);
    // Taken out first: they must be before all rules that others put in meanwhile.
    await restore(`*filter\n${[...withoutJumps(saved, this.#options), ...insert].join('\n')}\nCOMMIT\n`);
  }
}

/** Takes out all rules and chains of a home, in one transaction. Nothing there: nothing done. */
export async function removeFirewall(homeId: string, bridge: string): Promise<void> {
  const saved = await save();
  const chains = chainsIn(saved, homeId);
  const lines = withoutJumps(saved, { homeId, bridge });
  // All are emptied before the first is removed, as they lead to each other.
  lines.push(...chains.map((chain) => `-F ${chain}`), ...chains.map((chain) => `-X ${chain}`));
  if (lines.length > 0) await restore(`*filter\n${lines.join('\n')}\nCOMMIT\n`);
}

/** Commands that take out our jumps, as often as each is there. */
function withoutJumps(saved: string, home: { homeId: string; bridge: string }): string[] {
  const ours = new Set(
    (['DOCKER-USER', 'FORWARD'] as const).flatMap((base) => jumps(home, base).map(({ chain, rule }) => `-A ${chain} ${rule.join(' ')}`)),
  );
  return saved
    .split('\n')
    .filter((line) => ours.has(line))
    .map((line) => line.replace('-A ', '-D '));
}

function chainBase(saved: string): 'DOCKER-USER' | 'FORWARD' {
  return /^:DOCKER-USER /m.test(saved) ? 'DOCKER-USER' : 'FORWARD';
}

/** A network as iptables-save writes it: with its length, and without bits beyond it. */
export function canonical(cidr: string): string {
  const [address = '', length = '32'] = cidr.split('/');
  const bits = address.split('.').reduce((sum, octet) => sum * 256 + Number(octet), 0);
  const size = 2 ** (32 - Number(length));
  const network = Math.floor(bits / size) * size;
  return `${[24, 16, 8, 0].map((shift) => Math.floor(network / 2 ** shift) % 256).join('.')}/${length}`;
}

async function save(): Promise<string> {
  return (await run('iptables-save', ['-t', 'filter'], { timeout: IPTABLES_TIMEOUT_MS, maxBuffer: MAX_SAVE_BYTES })).stdout;
}

async function restore(text: string): Promise<void> {
  const child = spawn('iptables-restore', ['-w', LOCK_WAIT_SECONDS, '--noflush'], {
    stdio: ['pipe', 'ignore', 'pipe'],
    timeout: IPTABLES_TIMEOUT_MS,
  });
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
    if (stderr.length < 4_096) stderr += chunk;
  });
  // A program that fails at once closes its stdin; its own words below say more than EPIPE.
  child.stdin.on('error', () => {});
  child.stdin.end(text);
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', resolve);
  });
  if (code !== 0) throw new Error(`iptables-restore failed: ${stderr.trim().split('\n')[0] || `exit code ${code}`}`);
}
