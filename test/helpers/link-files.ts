/** What links over TCP need in files: a token, a certificate and its authority; in the test's folder. */
import { randomBytes } from 'node:crypto';
import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TcpListen, TcpTarget } from '#kit/link-endpoint.ts';
import { testAuthority } from './certificates.ts';

export type NetworkKind = 'tcp' | 'tls';

export class LinkFiles {
  readonly tokenFile: string;
  readonly tlsDir: string;
  readonly caFile: string;
  readonly #authority = testAuthority();
  token: string;

  constructor(folder: string) {
    this.tokenFile = join(folder, 'token');
    this.tlsDir = join(folder, 'tls');
    this.caFile = join(folder, 'ca.crt');
    this.token = newToken();
    mkdirSync(this.tlsDir, { recursive: true });
    writeFileSync(this.caFile, this.#authority.cert);
    this.putTokens(this.token);
    this.putCertificate('localhost');
  }

  /** Takes the place of the file at once, as a mounted Secret does. */
  putTokens(...tokens: string[]): void {
    writeFileSync(`${this.tokenFile}.new`, `${tokens.join('\n')}\n`);
    renameSync(`${this.tokenFile}.new`, this.tokenFile);
  }

  /** For these names, PEM. */
  putCertificate(...names: string[]): string {
    const { cert, key } = this.#authority.issue(...names);
    writeFileSync(join(this.tlsDir, 'tls.key'), key);
    writeFileSync(join(this.tlsDir, 'tls.crt'), cert);
    return cert;
  }

  listen(kind: NetworkKind, port = 0): TcpListen {
    return { kind: 'tcp', host: '127.0.0.1', port, tls: kind === 'tls' ? { dir: this.tlsDir } : null, tokenFile: this.tokenFile };
  }

  target(kind: NetworkKind, port: number, host = 'localhost'): TcpTarget {
    return { kind: 'tcp', host, port, tls: kind === 'tls' ? { caFile: this.caFile } : null, tokenFile: this.tokenFile };
  }
}

export const newToken = (): string => randomBytes(24).toString('base64url');
