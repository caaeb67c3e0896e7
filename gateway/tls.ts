/** TLS of the public listener: certificates by name, replaced while connections go on. */
import { createSecureContext, type SecureContext, type TlsOptions } from 'node:tls';
import type { Certificate } from '#contract/link.ts';
import type { Log } from '#kit/log.ts';

/** From the first byte of a connection to the end of its handshake. A common round trip takes a tenth of a second. */
const HANDSHAKE_TIMEOUT_MS = 10_000;

/** Servers that present these certificates. */
interface Presenter {
  /** The certificate for clients that name no host. */
  setSecureContext(options: { cert?: string; key?: string; minVersion: 'TLSv1.2' }): void;
}

export class Certificates {
  readonly #log: Log;
  readonly #presenters = new Set<Presenter>();
  #byName: ReadonlyMap<string, SecureContext> = new Map();
  /** By certificate and key: reading one takes a millisecond, and of a thousand one changes at a time. */
  #read: ReadonlyMap<string, SecureContext> = new Map();
  #first: Certificate | null = null;
  #told = false;

  constructor(log: Log) {
    this.#log = log;
  }

  /** Has the controller said which there are? */
  get known(): boolean {
    return this.#told;
  }

  /** Takes the place of all of them, for new connections. One that cannot be used is left out, and logged. */
  replace(certificates: readonly Certificate[]): void {
    this.#told = true;
    const byName = new Map<string, SecureContext>();
    const read = new Map<string, SecureContext>();
    let first: Certificate | null = null;
    for (const certificate of certificates) {
      try {
        const { cert, key } = certificate;
        const context = this.#read.get(cert + key) ?? createSecureContext({ cert, key, minVersion: 'TLSv1.2' });
        read.set(cert + key, context);
        first ??= certificate;
        // Of two for one name the earlier one is presented.
        for (const name of certificate.names) if (!byName.has(name.toLowerCase())) byName.set(name.toLowerCase(), context);
      } catch (error) {
        this.#log.error(
          { names: certificate.names, error: error instanceof Error ? error.message : String(error) },
          'a certificate cannot be used',
        );
      }
    }
    this.#byName = byName;
    this.#read = read;
    const changed = first?.cert !== this.#first?.cert || first?.key !== this.#first?.key;
    this.#first = first;
    this.#log.info({ names: [...byName.keys()] }, 'certificates');
    if (changed) for (const presenter of this.#presenters) this.#present(presenter);
  }

  /** The certificate for a host: its own, then that of `*.`; else undefined, and the first of all is presented. */
  #for(host: string): SecureContext | undefined {
    const name = host.toLowerCase();
    const dot = name.indexOf('.');
    return this.#byName.get(name) ?? (dot > 0 ? this.#byName.get(`*${name.slice(dot)}`) : undefined);
  }

  /** Options of a server; then `serve` it. */
  get options(): TlsOptions {
    return {
      minVersion: 'TLSv1.2',
      ALPNProtocols: ['http/1.1'],
      handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
      SNICallback: (host, done) => {
        // Where all were taken away the server still has the last one: it is not to be presented.
        if (this.#first === null) done(new Error('there is no certificate'));
        else done(null, this.#for(host));
      },
    };
  }

  /** The server presents these certificates from now on. */
  serve(presenter: Presenter): void {
    this.#presenters.add(presenter);
    this.#present(presenter);
  }

  /** Without a certificate the handshake fails: no cipher goes without one. */
  #present(presenter: Presenter): void {
    const first = this.#first;
    presenter.setSecureContext({ minVersion: 'TLSv1.2', ...(first === null ? {} : { cert: first.cert, key: first.key }) });
  }
}
