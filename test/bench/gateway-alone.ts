/**
 * Gateways in processes of their own, as users have them, with what surrounds them stood in for: the controller is a fake in
 * this process, and one further process answers for all instances. So a thousand functions fit on a small machine, and what
 * is measured of the gateway is not what a thousand containers do to the machine.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openPublicSocket, type PublicSocket } from '../../cli/supervisor/public-socket.ts';
import { FakeController, testRoute } from '../helpers/gateway-controller.ts';
import { freePort } from '../helpers/platform.ts';
import { ROOT } from '../helpers/root.ts';
import { waitFor } from '../helpers/wait.ts';

/** Slots of each lease: more than there are connections. */
const SLOTS = 200;

export interface GatewayAloneOptions {
  functions: number;
  /** Processes on the one port. */
  gateways?: number;
  /** Of the gateways' processes, for Node itself. */
  nodeFlags?: readonly string[];
}

export class GatewayAlone {
  readonly port: number;
  /** Of its functions. */
  readonly paths: readonly string[];
  readonly #children: ChildProcess[] = [];
  readonly #gateways: ChildProcess[] = [];
  readonly #folder = mkdtempSync(join(tmpdir(), 'fnb-gw-'));
  readonly #socket: PublicSocket;
  readonly #controller: FakeController;

  private constructor(functions: number) {
    this.#socket = openPublicSocket('127.0.0.1', 0);
    this.port = this.#socket.port;
    this.paths = Array.from({ length: functions }, (_, n) => `/f${n}`);
    this.#controller = new FakeController(join(this.#folder, 'link'));
  }

  static async start({ functions, gateways = 1, nodeFlags = [] }: GatewayAloneOptions): Promise<GatewayAlone> {
    const alone = new GatewayAlone(functions);
    try {
      await alone.#startInstances(functions);
      await alone.#startGateways(gateways, nodeFlags);
    } catch (error) {
      await alone.stop();
      throw error;
    }
    return alone;
  }

  /** Folder of the sockets of its instances, which have the names of their numbers. */
  get sockets(): string {
    return join(this.#folder, 'i');
  }

  async #startInstances(functions: number): Promise<void> {
    const { sockets } = this;
    mkdirSync(sockets);
    const script = join(import.meta.dirname, 'fixtures/instances.mjs');
    const instances = spawn(process.execPath, [script, sockets, String(functions)], { stdio: ['ignore', 'pipe', 'inherit'] });
    this.#children.push(instances);
    await once(instances.stdout, 'data');
    const controller = this.#controller;
    controller.routes = this.paths.map((path) => testRoute('default', path.slice(1), { 1: 100 }, { maxSlots: SLOTS }));
    controller.grantOnDemand((revision) => ({ kind: 'unix', path: join(sockets, /f(\d+)@/.exec(revision)![1]!) }), SLOTS);
    const grant = controller.onMessage;
    controller.onMessage = (message, from) => {
      grant(message, from);
      // As the controller does when it has kept them.
      if (message.type === 'calls' && message.counted !== undefined)
        controller.send({ type: 'counted', seq: message.counted.seq }, controller.term, from);
      // A thousand functions say so much that keeping it would be what is measured.
      if (message.type === 'want' || message.type === 'calls') controller.heard.pop();
    };
    await controller.start();
  }

  async #startGateways(gateways: number, nodeFlags: readonly string[]): Promise<void> {
    for (let n = 0; n < gateways; n++) {
      const gateway = spawn(process.execPath, [...nodeFlags, join(ROOT, 'gateway/main.ts')], {
        stdio: ['ignore', 'ignore', 'inherit', this.#socket.fd],
        env: {
          ...process.env,
          FN_LINK_SOCKET: this.#controller.path,
          FN_LISTEN_FD: '3',
          FN_METRICS_LISTEN: `127.0.0.1:${await freePort()}`,
          FN_LOG_LEVEL: 'warn',
        },
      });
      this.#children.push(gateway);
      this.#gateways.push(gateway);
    }
    await waitFor('the gateways', () => this.#controller.all('routed').length >= gateways, { timeoutMs: 30_000 });
  }

  /** Of its gateways. */
  get pids(): number[] {
    return this.#gateways.map(({ pid }) => pid!);
  }

  async stop(): Promise<void> {
    for (const child of this.#children.toReversed()) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      const over = once(child, 'exit');
      child.kill('SIGTERM');
      await over;
    }
    await this.#controller.stop();
    this.#socket.close();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
