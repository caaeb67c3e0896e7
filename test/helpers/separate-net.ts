/**
 * A network of its own beside the machine's, with one cable between the two that can be cut so that packets are lost and
 * nobody is told, as a broken switch does. Needs root. The host's own rules are not touched: those that drop are in there.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { readlinkSync } from 'node:fs';
import { execa } from 'execa';
import { waitFor } from './wait.ts';

const CUT = `
table inet cut {
  chain in { type filter hook input priority 0; policy drop; }
  chain out { type filter hook output priority 0; policy drop; }
}
`;

export class SeparateNet {
  /** Of what listens in it, as the machine sees it. */
  readonly address: string;
  readonly #holder: ChildProcess;

  private constructor(holder: ChildProcess, address: string) {
    this.#holder = holder;
    this.address = address;
  }

  static async make(): Promise<SeparateNet> {
    const holder = spawn('setpriv', ['--pdeathsig', 'KILL', 'unshare', '--net', 'sleep', 'infinity'], { stdio: 'ignore' });
    const [third, fourth] = [randomInt(0, 256), randomInt(0, 64) * 4];
    const net = new SeparateNet(holder, `10.214.${third}.${fourth + 2}`);
    try {
      const namespace = (pid: number | undefined) => readlinkSync(`/proc/${pid}/ns/net`);
      await waitFor('a network', () => namespace(holder.pid) !== namespace(process.pid), { everyMs: 5 });
      const name = `fnt${third}-${fourth}`;
      // With the network in which its other end is, it is gone.
      await execa('ip', ['link', 'add', name, 'type', 'veth', 'peer', 'name', 'cable', 'netns', String(holder.pid)]);
      await execa('ip', ['address', 'add', `10.214.${third}.${fourth + 1}/30`, 'dev', name]);
      await execa('ip', ['link', 'set', name, 'up']);
      await net.run('ip', ['address', 'add', `${net.address}/30`, 'dev', 'cable']);
      for (const device of ['cable', 'lo']) await net.run('ip', ['link', 'set', device, 'up']);
      return net;
    } catch (error) {
      await net.close();
      throw error;
    }
  }

  /** What a command begins with that is to run in there. */
  get inside(): string[] {
    return ['nsenter', `--net=/proc/${this.#holder.pid}/ns/net`];
  }

  /** Every packet is lost, both ways. */
  async cut(): Promise<void> {
    await this.run('nft', ['-f', '-'], CUT);
  }

  async mend(): Promise<void> {
    await this.run('nft', ['delete', 'table', 'inet', 'cut']);
  }

  /** Who runs in it ends first. */
  async close(): Promise<void> {
    if (this.#holder.exitCode !== null || this.#holder.signalCode !== null) return;
    const gone = once(this.#holder, 'exit');
    this.#holder.kill('SIGKILL');
    await gone;
  }

  async run(command: string, args: string[], input = ''): Promise<void> {
    const [file, ...rest] = this.inside;
    await execa(file!, [...rest, command, ...args], { input });
  }
}
