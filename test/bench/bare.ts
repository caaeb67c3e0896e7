/** Servers without a platform, in processes of their own: what a request costs at least. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';

export interface PlainServer {
  readonly port: number;
  readonly pid: number;
  stop: () => void;
}

/** A bare Node server over TCP: what the gateway's own two TCP ends would cost without forwarding. */
export const startBare = (): Promise<PlainServer> => start('bare.mjs');

/** A proxy without logic in front of an instance's socket, or of a folder of them: what forwarding costs without a platform. */
export const startRawProxy = (target: string): Promise<PlainServer> => start('raw-proxy.mjs', target);

async function start(script: string, ...args: string[]): Promise<PlainServer> {
  const path = join(import.meta.dirname, 'fixtures', script);
  const child = spawn(process.execPath, [path, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  return { port: Number(line.toString()), pid: child.pid!, stop: () => child.kill() };
}
