/** A bare Node server over TCP: what the gateway's own two TCP ends would cost without forwarding. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';

export interface BareServer {
  readonly port: number;
  readonly pid: number;
  stop: () => void;
}

export async function startBare(): Promise<BareServer> {
  const child = spawn(process.execPath, [join(import.meta.dirname, 'fixtures/bare.mjs')], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  return { port: Number(line.toString()), pid: child.pid!, stop: () => child.kill() };
}
