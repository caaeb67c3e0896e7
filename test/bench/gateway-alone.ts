/**
 * A gateway in a process of its own, as users have it, with what surrounds it stood in for: the controller is a fake in this
 * process, and one further process answers for all instances. So a thousand functions fit on a small machine, and what is
 * measured of the gateway is not what a thousand containers do to the machine.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from '../helpers/platform.ts';
import { FakeController, testRoute } from '../helpers/gateway-controller.ts';
import { ROOT } from '../helpers/root.ts';
import { waitFor } from '../helpers/wait.ts';

/** Slots of each lease: more than there are connections. */
const SLOTS = 200;

export interface GatewayAlone {
  readonly port: number;
  readonly pid: number;
  /** Path of the function with this number. */
  path(n: number): string;
  stop(): Promise<void>;
}

export interface GatewayAloneOptions {
  functions: number;
  /** Of the gateway's process, for Node itself. */
  nodeFlags?: string[];
}

export async function startGatewayAlone({ functions, nodeFlags = [] }: GatewayAloneOptions): Promise<GatewayAlone> {
  const folder = mkdtempSync(join(tmpdir(), 'fnb-gw-'));
  const sockets = join(folder, 'i');
  mkdirSync(sockets);
  const children: ChildProcess[] = [];
  const controller = new FakeController(join(folder, 'link'));
  const stop = async () => {
    for (const child of children.toReversed()) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      const over = once(child, 'exit');
      child.kill('SIGTERM');
      await over;
    }
    await controller.stop();
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    const instances = spawn(process.execPath, [join(import.meta.dirname, 'fixtures/instances.mjs'), sockets, String(functions)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    children.push(instances);
    await once(instances.stdout, 'data');
    const names = Array.from({ length: functions }, (_, n) => `f${n}`);
    controller.routes = names.map((name) => testRoute('default', name, { 1: 100 }, { maxSlots: SLOTS }));
    controller.grantOnDemand((revision) => ({ kind: 'unix', path: join(sockets, /f(\d+)@/.exec(revision)![1]!) }), SLOTS);
    await controller.start();
    const port = await freePort();
    const gateway = spawn(process.execPath, [...nodeFlags, join(ROOT, 'gateway/main.ts')], {
      stdio: ['ignore', 'ignore', 'inherit'],
      env: {
        ...process.env,
        FN_LINK_SOCKET: controller.path,
        FN_LISTEN: `127.0.0.1:${port}`,
        FN_METRICS_LISTEN: `127.0.0.1:${await freePort()}`,
        FN_LOG_LEVEL: 'warn',
      },
    });
    children.push(gateway);
    await waitFor('the gateway', () => controller.all('routed').length > 0, { timeoutMs: 20_000 });
    return { port, pid: gateway.pid!, path: (n) => `/f${n}`, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}
