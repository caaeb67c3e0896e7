/** The dialling end of a link of lines (kit/line-server.ts is the other): one connection, its lines, and why it ended. */
import { createConnection, type Socket } from 'node:net';
import type { Clock } from './clock.ts';
import { LineSplitter } from './ndjson.ts';

/** How long what is still to be sent may take when a link is ended, ms. */
const END_TIMEOUT_MS = 1_000;

export interface LineConnection {
  path: string;
  maxLineBytes: number;
  onConnect: (socket: Socket) => void;
  /** What it throws ends the connection, and is its reason. */
  onLine: (line: string) => void;
  /** Once, however it ended; `null`: the other end closed it. */
  onClose: (reason: string | null) => void;
}

export function dialLines({ path, maxLineBytes, onConnect, onLine, onClose }: LineConnection): Socket {
  const socket = createConnection({ path });
  const splitter = new LineSplitter(maxLineBytes);
  let reason: string | null = null;
  socket.on('connect', () => onConnect(socket));
  socket.on('data', (chunk) => {
    try {
      for (const line of splitter.push(chunk)) {
        if (socket.destroyed) return;
        onLine(line);
      }
    } catch (error) {
      socket.destroy(error instanceof Error ? error : new Error(String(error)));
    }
  });
  socket.on('error', (error) => {
    reason = error.message;
  });
  socket.on('close', () => onClose(reason));
  return socket;
}

/** Sends what is still to be sent, and ends the connection; resolves when it is closed. */
export async function endLines(socket: Socket | null, clock: Clock): Promise<void> {
  if (socket === null || socket.destroyed) return;
  await new Promise<void>((resolve) => {
    const giveUp = clock.after(END_TIMEOUT_MS, () => socket.destroy());
    socket.once('close', () => {
      giveUp();
      resolve();
    });
    socket.destroySoon();
  });
}
