/** Connections to an API server that are kept: those of requests apart from those of watches and logs, which last. */
import { Agent, ProxyAgent, Socks5ProxyAgent, type Dispatcher } from 'undici';
import type { Log } from '#kit/log.ts';
import type { TlsMaterial } from './credentials.ts';

const CONNECT_TIMEOUT_MS = 5_000;
/** Connections for requests; watches and logs have one each beside them. */
const MAX_CONNECTIONS = 32;
const KEEP_ALIVE_MS = 30_000;
/** What is believed of one answer, bytes: an object has 1.5 MiB at most, a page of them some more. */
const MAX_ANSWER_BYTES = 128 * 1024 * 1024;

export class Connections {
  readonly #proxy: string | null;
  readonly #log: Log;
  readonly #headersTimeoutMs: number;
  /** Made anew when certificates change. */
  #agents: { requests: Dispatcher; streams: Dispatcher; tls: TlsMaterial } | null = null;
  /** Nothing new goes over these. */
  readonly #retired = new Set<Dispatcher>();

  /** `headersTimeoutMs`: so long a stream's answer may take to begin. */
  constructor(proxy: string | null, log: Log, headersTimeoutMs: number) {
    this.#proxy = proxy;
    this.#log = log;
    this.#headersTimeoutMs = headersTimeoutMs;
  }

  of(purpose: 'requests' | 'streams', tls: TlsMaterial): Dispatcher {
    if (this.#agents === null || !sameTls(this.#agents.tls, tls)) {
      this.#retire();
      this.#agents = { requests: this.#agent(tls, MAX_CONNECTIONS), streams: this.#agent(tls, null), tls };
    }
    return this.#agents[purpose];
  }

  /**
   * Over this one a request was not answered in time. Its other end may be gone: then all that is multiplexed on it waits until
   * TCP gives up, a quarter of an hour. From now on everything goes over others; what is under way there may end.
   */
  distrust(dispatcher: Dispatcher): void {
    if (this.#agents?.requests === dispatcher) this.#retire();
  }

  /** Ends all of them, with what is under way. */
  async destroy(): Promise<void> {
    const agents = this.#agents;
    this.#agents = null;
    const all = agents === null ? [...this.#retired] : [agents.requests, agents.streams, ...this.#retired];
    await Promise.all(all.map((agent) => agent.destroy()));
  }

  #retire(): void {
    if (this.#agents === null) return;
    const { requests, streams } = this.#agents;
    this.#agents = null;
    for (const agent of [requests, streams]) {
      this.#retired.add(agent);
      agent
        .close()
        .catch((error: unknown) => this.#log.warn({ error: String(error) }, 'former connections to the API server could not be closed'))
        .finally(() => this.#retired.delete(agent));
    }
  }

  #agent(tls: TlsMaterial, connections: number | null): Dispatcher {
    const headersTimeout = this.#headersTimeoutMs;
    const common = { keepAliveTimeout: KEEP_ALIVE_MS, headersTimeout, bodyTimeout: 0, maxResponseSize: -1, connections };
    const bounded = connections === null ? common : { ...common, headersTimeout: 0, maxResponseSize: MAX_ANSWER_BYTES };
    const uri = this.#proxy;
    if (uri?.startsWith('socks')) return new Socks5ProxyAgent(uri, { ...bounded, requestTls: tls });
    if (uri !== null) return new ProxyAgent({ ...bounded, uri, requestTls: tls });
    return new Agent({ ...bounded, connect: { ...tls, timeout: CONNECT_TIMEOUT_MS, keepAlive: true, keepAliveInitialDelay: 10_000 } });
  }
}

function sameTls(one: TlsMaterial, other: TlsMaterial): boolean {
  const same = (a: string | Buffer | undefined, b: string | Buffer | undefined) =>
    a === b || (a !== undefined && b !== undefined && String(a) === String(b));
  return same(one.ca, other.ca) && same(one.cert, other.cert) && same(one.key, other.key);
}
