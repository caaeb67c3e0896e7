/**
 * Hosts to dial, in a network namespace behind a veth pair: two with public addresses, one private,
 * one link-local. They are the same server; what differs is the way to it.
 */
import { execFileSync, spawn } from 'node:child_process';
import { waitFor } from '../helpers/wait.ts';
import { connect } from 'node:net';

const NAMESPACE = 'fnt-driver';
const [HOST_SIDE, FAR_SIDE] = ['fntdrv0', 'fntdrv1'];

/** 203.0.113.0/24 and 198.51.100.0/24 are for documentation (RFC 5737): routed nowhere, and no range that we refuse. */
export const FAR = {
  public: '203.0.113.130',
  other: '198.51.100.77',
  private: '10.213.77.10',
  linkLocal: '169.254.213.77',
  port: 8_080,
} as const;
/** An address of this host, on the way to the far side. */
export const NEAR = '203.0.113.129';

const ip = (...args: string[]) => execFileSync('ip', args, { stdio: ['ignore', 'ignore', 'pipe'] });

/** Resolves with what the other side says first, or the code of the error. */
export function dialFromHere(host: string, port: number): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, timeout: 3_000 });
    socket.once('data', (data) => {
      socket.destroy();
      resolve(`said ${data.toString()}`);
    });
    socket.once('timeout', () => {
      socket.destroy();
      resolve('timeout');
    });
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
  });
}

/** Makes the far side; returns what removes it. Needs root. */
export async function makeFarSide(): Promise<() => Promise<void>> {
  remove();
  ip('netns', 'add', NAMESPACE);
  ip('link', 'add', HOST_SIDE, 'type', 'veth', 'peer', 'name', FAR_SIDE, 'netns', NAMESPACE);
  ip('addr', 'add', `${NEAR}/30`, 'dev', HOST_SIDE);
  ip('link', 'set', HOST_SIDE, 'up');
  for (const device of ['lo', FAR_SIDE]) ip('-n', NAMESPACE, 'link', 'set', device, 'up');
  ip('-n', NAMESPACE, 'addr', 'add', `${FAR.public}/30`, 'dev', FAR_SIDE);
  for (const address of [FAR.other, FAR.private, FAR.linkLocal]) {
    ip('-n', NAMESPACE, 'addr', 'add', `${address}/32`, 'dev', 'lo');
    ip('route', 'add', `${address}/32`, 'via', FAR.public, 'dev', HOST_SIDE);
  }
  ip('-n', NAMESPACE, 'route', 'add', 'default', 'via', NEAR);
  const source = `require('net').createServer((socket) => socket.end('far')).listen(${FAR.port}, '0.0.0.0')`;
  const server = spawn('ip', ['netns', 'exec', NAMESPACE, process.execPath, '-e', source], { stdio: 'ignore' });
  const ended = new Promise((resolve) => server.once('exit', resolve));
  await waitFor('the far side', async () => (await dialFromHere(FAR.public, FAR.port)) === 'said far');
  return async () => {
    server.kill('SIGKILL');
    await ended;
    remove();
  };
}

function remove(): void {
  for (const args of [
    ['link', 'del', HOST_SIDE],
    ['netns', 'del', NAMESPACE],
  ]) {
    try {
      ip(...args);
    } catch (error) {
      // Not there, which is what is wanted; anything else shows when it is made.
      if (!/Cannot find device|No such file/.test(String(error))) throw error;
    }
  }
}
