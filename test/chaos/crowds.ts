/** Clients that mean no good, on plain sockets: each tells how it ended. */
import { connect, type Socket } from 'node:net';
import { sleep } from '../helpers/wait.ts';

/** Addresses of this machine that clients come from, so that ports do not run out. */
const SOURCES = 16;
/** Connections opened at a time: more than this at once, and the kernel's queue of the listener overflows. */
const AT_A_TIME = 200;
/** Between two bytes of one that dribbles, ms, or more. */
export const DRIBBLE_MS = 200;

export interface Ending {
  /** Status line of the answer; '' where there was none. */
  status: string;
  /** Bytes that it could say of what it dribbled, one in `DRIBBLE_MS` at most. */
  said: number;
  /** From its first byte to its end, ms: a figure, since it holds what this machine took, too. */
  ms: number;
  /** True: it was this end that had enough. */
  gaveUp: boolean;
}

const from = (index: number) => `127.0.1.${1 + (index % SOURCES)}`;

function dial(port: number, index: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: '127.0.0.1', localAddress: from(index) }, () => resolve(socket));
    socket.on('error', reject);
  });
}

/** Connections that were answered once and then say nothing. They stay open; `destroy` them. */
export async function idlers(port: number, count: number): Promise<Socket[]> {
  const open: Socket[] = [];
  while (open.length < count) {
    const next = Array.from({ length: Math.min(AT_A_TIME, count - open.length) }, (_, index) => answered(port, open.length + index));
    open.push(...(await Promise.all(next)));
  }
  return open;
}

async function answered(port: number, index: number): Promise<Socket> {
  const socket = await dial(port, index);
  socket.write('GET /.fn/live HTTP/1.1\r\nHost: a\r\n\r\n');
  await new Promise((resolve, reject) => socket.once('data', resolve).once('close', reject));
  return socket.resume();
}

/** Sends `head` at once and `tail` byte by byte, over and over, until the other end has had enough, or this one after so long. */
export async function dribble(port: number, index: number, head: string, tail: string, patienceMs: number): Promise<Ending> {
  const socket = await dial(port, index);
  const ended = statusOf(socket);
  const began = performance.now();
  socket.write(head);
  let said = 0;
  for (; !socket.destroyed && performance.now() - began < patienceMs; said++) {
    socket.write(tail[said % tail.length]!);
    await Promise.race([sleep(DRIBBLE_MS), ended]);
  }
  const gaveUp = !socket.destroyed;
  if (gaveUp) socket.destroy();
  return { status: await ended, said, ms: Math.round(performance.now() - began), gaveUp };
}

/** Sends so many bytes after a head, as fast as they are taken, whatever is answered. */
export async function flood(port: number, index: number, head: string, chunk: Buffer, times: number): Promise<Ending> {
  const socket = await dial(port, index);
  const ended = statusOf(socket);
  const began = performance.now();
  socket.write(head);
  for (let time = 0; time < times && !socket.destroyed; time++) {
    if (!socket.write(chunk)) await Promise.race([new Promise((resolve) => socket.once('drain', resolve)), ended]);
  }
  return { status: await ended, said: 0, ms: Math.round(performance.now() - began), gaveUp: false };
}

/** The first line of what was answered, when the connection has ended. */
function statusOf(socket: Socket): Promise<string> {
  let text = '';
  socket.on('data', (chunk: Buffer) => (text = (text + chunk.toString('latin1')).slice(0, 1_000)));
  // Cut off while it still wrote: how it ended is told by what had come until then.
  socket.removeAllListeners('error').on('error', () => socket.destroy());
  return new Promise((resolve) => socket.on('close', () => resolve(text.split('\r\n')[0] ?? '')));
}

/** How many ended how. */
export function counted(endings: readonly Ending[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { status } of endings) counts[status] = (counts[status] ?? 0) + 1;
  return counts;
}
