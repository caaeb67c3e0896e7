/**
 * Signs of life on a link over TCP: a host that is gone says nothing, not even that it is gone. Both ends send an
 * empty line when they have said nothing else for a while, and give up who was not heard for longer.
 */
import type { Socket } from 'node:net';

/** Something is sent at least this often, ms, give or take half of it. */
export const HEARTBEAT_MS = 2_000;
/** Who is not heard for so long is gone, ms. */
export const SILENCE_MS = 10_000;

export interface HeartbeatTiming {
  heartbeatMs: number;
  silenceMs: number;
}

/** Until the socket is closed. Whatever is read of it counts: it ends with an error when nothing was for too long. */
export function keepAlive(
  socket: Socket,
  { heartbeatMs, silenceMs }: HeartbeatTiming = { heartbeatMs: HEARTBEAT_MS, silenceMs: SILENCE_MS },
): void {
  const tickMs = heartbeatMs / 2;
  // Counted in ticks: a process that was frozen itself has heard nothing, and is not to blame the other for it.
  const maxSilent = Math.ceil(silenceMs / tickMs);
  let silent = 0;
  let read = socket.bytesRead;
  let written = socket.bytesWritten;
  let quiet = 0;
  const timer = setInterval(() => {
    silent = socket.bytesRead === read ? silent + 1 : 0;
    read = socket.bytesRead;
    if (silent >= maxSilent) {
      socket.destroy(new Error(`nothing was heard for ${silenceMs} ms`));
      return;
    }
    quiet = socket.bytesWritten === written ? quiet + 1 : 0;
    written = socket.bytesWritten;
    // What waits to be sent is a sign of life itself, once the other reads.
    if (quiet < 2 || socket.writableLength > 0) return;
    socket.write('\n');
    written = socket.bytesWritten;
    quiet = 0;
  }, tickMs);
  timer.unref();
  socket.once('close', () => clearInterval(timer));
}
