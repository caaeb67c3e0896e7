/**
 * The public listening socket. The supervisor holds it open and never accepts; each gateway gets it as
 * file descriptor 3 and listens on it. When a gateway dies the socket goes on listening, because the
 * supervisor still has it: who connects meanwhile waits in the backlog, and nobody is refused.
 */
import net from 'node:net';
import { CliError, EXIT } from '../errors.ts';
import type { SupervisorOptions } from './options.ts';

/** What of Node's inner TCP handle is used: bound, but not yet listening, which no public API gives. */
interface ServerHandle {
  readonly fd: number;
  getsockname(out: { port?: number }): number;
  close(): void;
}

declare module 'node:net' {
  /** Used by node:cluster for the same purpose since Node 0.8. */
  function _createServerHandle(address: string, port: number, addressType: 4 | 6, fd?: number, flags?: number): ServerHandle | number;
}

export interface PublicSocket {
  readonly fd: number;
  readonly port: number;
  close(): void;
}

/** Which flags of `fn up` say where a socket is bound. */
export type SocketFlags = 'port' | 'tls-listen';

/** Binds. Throws CliError that names the port and says how to choose another. */
export function openPublicSocket(
  host: string,
  port: number,
  flags: SocketFlags = 'port',
  command: SupervisorOptions['command'] = 'fn up',
): PublicSocket {
  const family = net.isIP(host);
  if (family !== 4 && family !== 6)
    throw new CliError(flags === 'port' ? `--host ${host} is not an IP address` : `--tls-listen: ${host} is not an IP address`, {
      exitCode: EXIT.usage,
      hint: 'Such as 127.0.0.1 (this machine only) or 0.0.0.0 (every interface).',
    });
  const handle = net._createServerHandle(host, port, family);
  if (typeof handle === 'number') throw bindError(handle, host, port, flags, command);
  const bound: { port?: number } = {};
  // libuv keeps "address in use" until the socket is used for the first time: this asks for it.
  const failure = handle.getsockname(bound);
  if (failure !== 0 || bound.port === undefined) {
    handle.close();
    throw bindError(failure, host, port, flags, command);
  }
  return { fd: handle.fd, port: bound.port, close: () => handle.close() };
}

const ERRNO = { EACCES: -13, EADDRINUSE: -98, EADDRNOTAVAIL: -99 } as const;
/** macOS numbers them otherwise. */
const DARWIN_ERRNO = { EADDRINUSE: -48, EADDRNOTAVAIL: -49 } as const;

function bindError(errno: number, host: string, port: number, flags: SocketFlags, command: string): CliError {
  const otherPort = port < 1_024 ? (flags === 'port' ? 8_080 : 8_443) : port + 1;
  const other = flags === 'port' ? `--port ${otherPort}` : `--tls-listen ${host.includes(':') ? `[${host}]` : host}:${otherPort}`;
  if (errno === ERRNO.EADDRINUSE || errno === DARWIN_ERRNO.EADDRINUSE) {
    return new CliError(`port ${port} is taken on ${host}`, {
      hint: `Choose another: ${command} ${other}    (who has it: ss -ltnp 'sport = :${port}')`,
    });
  }
  if (errno === ERRNO.EACCES)
    return new CliError(`port ${port} may not be bound by this user`, { hint: `Choose one from 1024 up: ${command} ${other}` });
  if (errno === ERRNO.EADDRNOTAVAIL || errno === DARWIN_ERRNO.EADDRNOTAVAIL)
    return new CliError(`${host} is not an address of this machine`, { exitCode: EXIT.usage, hint: 'Use 127.0.0.1 or 0.0.0.0.' });
  return new CliError(`${host}:${port} cannot be bound (errno ${-errno})`);
}
