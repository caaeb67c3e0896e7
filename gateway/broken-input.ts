/** Input that Node's parser could not make sense of, or waited for too long: answered where it is certain whose answer it is. */
import type { Socket } from 'node:net';
import type { ClientConnection } from './context.ts';
import { HEAD_LIMITS } from './headers.ts';
import { sendRawProblem } from './problems.ts';

/** Until a connection that was answered with an error and ended is cut, where the client keeps it. */
const LINGER_MS = 1_000;

/** For a client that does not end its side. */
export function cutLater(socket: Socket): void {
  const timer = setTimeout(() => socket.destroy(), LINGER_MS);
  timer.unref();
  socket.once('close', () => clearTimeout(timer));
}

/** Answers with a problem of this `id`, in its turn and as the last one; where it is not certain whose answer that would be, the connection is cut. */
export function answerBrokenInput(
  error: NodeJS.ErrnoException & { rawPacket?: Buffer },
  socket: Socket,
  connection: ClientConnection | null,
  id: string,
): void {
  const { code, detail } = explain(error);
  // One that never sent a byte is waiting for nothing.
  if (code === null || socket.bytesRead === 0) {
    socket.destroy();
    return;
  }
  const last = connection?.last ?? null;
  if (last !== null && !last.received) {
    // Within a body. Its answer, where there is none yet, is the only one that may be given.
    if (last.answered) socket.destroy();
    else last.breakOff(code, detail);
    return;
  }
  answerInTurn(connection, () => {
    sendRawProblem(socket, code, detail, id);
    cutLater(socket);
  });
}

/** Requests before it on the connection are answered first, in their order. */
export function answerInTurn(connection: ClientConnection | null, answer: () => void): void {
  if (connection !== null && connection.open.size > 0) connection.onAnswered = answer;
  else answer();
}

function explain(error: NodeJS.ErrnoException & { rawPacket?: Buffer }): {
  code: 'bad-request' | 'request-timeout' | 'headers-too-large' | 'uri-too-long' | 'body-too-large' | null;
  detail: string;
} {
  switch (error.code) {
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return { code: 'request-timeout', detail: 'the head of the request came too slowly' };
    case 'HPE_HEADER_OVERFLOW': {
      // A packet that begins a request and has no end of line holds nothing but its URL.
      const packet = error.rawPacket?.toString('latin1') ?? '';
      if (/^[A-Z]+ \S/.test(packet) && !packet.includes('\n'))
        return { code: 'uri-too-long', detail: `the URL is over ${HEAD_LIMITS.maxUrlBytes} bytes` };
      return { code: 'headers-too-large', detail: `the headers are over ${HEAD_LIMITS.maxHeaderBytes} bytes` };
    }
    case 'HPE_CHUNK_EXTENSIONS_OVERFLOW':
      return { code: 'body-too-large', detail: 'the chunk extensions are too large' };
    case 'HPE_INVALID_EOF_STATE':
      return { code: null, detail: '' };
    default:
      if (error.code?.startsWith('HPE_')) return { code: 'bad-request', detail: `the request is not HTTP: ${error.message}` };
      return { code: null, detail: '' };
  }
}
