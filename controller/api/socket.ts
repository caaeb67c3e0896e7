/** The place of a unix socket: a folder that only its owner can enter, and no file that is in use. */
import { chmod, lstat, mkdir, unlink } from 'node:fs/promises';
import { connect } from 'node:net';
import { dirname } from 'node:path';
import { MAX_SOCKET_PATH_BYTES } from '#kit/paths.ts';

/** How long whoever listens on the socket has to accept a connection before it is taken for dead. */
const PROBE_TIMEOUT_MS = 1_000;

/**
 * Makes the folder (0700; those above it 0711, so that others may pass through to theirs) and removes
 * a stale socket. Throws where somebody answers on it, and where the path is taken by anything else.
 */
export async function prepareSocketPath(path: string): Promise<void> {
  if (Buffer.byteLength(path) > MAX_SOCKET_PATH_BYTES)
    throw new Error(`the path of a unix socket has at most ${MAX_SOCKET_PATH_BYTES} bytes, and this has more: ${path}`);
  const folder = dirname(path);
  await mkdir(dirname(folder), { recursive: true, mode: 0o711 });
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const { uid } = await lstat(folder);
  if (process.getuid !== undefined && uid !== process.getuid()) throw new Error(`${folder} belongs to another user (uid ${uid})`);
  await chmod(folder, 0o700);
  const found = await lstat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null;
    throw error;
  });
  if (found === null) return;
  if (!found.isSocket()) throw new Error(`${path} is there, and is not a socket: move it away`);
  if (await answers(path)) throw new Error(`another controller listens on ${path}: stop it first (fn down)`);
  await unlink(path);
}

/** Whether anybody accepts connections. No answer at all counts as one: a busy process must not lose its socket. */
function answers(path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    const timer = setTimeout(() => finish(true), PROBE_TIMEOUT_MS);
    const finish = (result: boolean): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(result);
    };
    socket.once('connect', () => finish(true));
    socket.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNREFUSED' || error.code === 'ENOENT') return finish(false);
      clearTimeout(timer);
      reject(error);
    });
  });
}
