/**
 * Where links of lines are: on this host a unix socket, whose mode says who may connect; between hosts TCP, with a
 * token that the dialling end shows first (link-greeting.ts), and TLS unless the network between them is trusted.
 */

/** Where a link is dialled. */
export type LinkTarget = { kind: 'unix'; path: string } | TcpTarget;

export interface TcpTarget {
  kind: 'tcp';
  /** Name or address; a name is resolved anew at every dial. */
  host: string;
  port: number;
  /** null: none. `caFile`: what the server's certificate is checked with; null: the roots that Node trusts. */
  tls: { caFile: string | null } | null;
  /** Its lines are tokens: see link-tokens.ts. */
  tokenFile: string;
}

/** Where a link is listened for. */
export type LinkListen = UnixListen | TcpListen;

export interface UnixListen {
  kind: 'unix';
  path: string;
  /** Group that may connect beside the owner; null: only the owner. */
  gid: number | null;
}

export interface TcpListen {
  kind: 'tcp';
  host: string;
  port: number;
  /** null: none. `dir`: with tls.crt and tls.key. */
  tls: { dir: string } | null;
  tokenFile: string;
}

/** For the log: `tls://HOST:PORT`, or the path of the socket. */
export function showEndpoint(endpoint: LinkTarget | LinkListen): string {
  if (endpoint.kind === 'unix') return endpoint.path;
  const host = endpoint.host.includes(':') ? `[${endpoint.host}]` : endpoint.host;
  return `${endpoint.tls === null ? 'tcp' : 'tls'}://${host}:${endpoint.port}`;
}

/** What the settings say of a link that is listened for over TCP. `listen`: HOST:PORT, `[::]:7071`. */
export interface TcpListenSettings {
  listen: string | undefined;
  tokenFile: string | undefined;
  tlsDir: string | undefined;
}

/** null: not over TCP. Throws where there is no token: nobody may dial without. */
export function tcpListen({ listen, tokenFile, tlsDir }: TcpListenSettings): TcpListen | null {
  if (listen === undefined) return null;
  if (tokenFile === undefined) throw new Error(`links over TCP (${listen}) need FN_LINK_TOKEN_FILE`);
  const colon = listen.lastIndexOf(':');
  return {
    kind: 'tcp',
    host: listen.slice(0, colon).replace(/^\[|\]$/g, ''),
    port: Number(listen.slice(colon + 1)),
    tls: tlsDir === undefined ? null : { dir: tlsDir },
    tokenFile,
  };
}
