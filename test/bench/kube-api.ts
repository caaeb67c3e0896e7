/** The API server as the bench uses it itself: single requests over open connections, and a proxy that writes down what passes. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { Agent, request as httpsRequest } from 'node:https';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Credentials, loadCredentials } from '../../controller/kube/credentials.ts';

/** One request that passed the proxy. */
export interface PassedRequest {
  /** performance.now() when it came. */
  at: number;
  /** `PATCH pods`, `GET pods/log`: the method and the kind of thing. */
  what: string;
}

export interface CountingProxy {
  /** A kubeconfig that leads through it. */
  readonly kubeconfig: string;
  readonly passed: PassedRequest[];
  close(): Promise<void>;
}

export class KubeRequests {
  readonly #credentials: Credentials;
  readonly #agent = new Agent({ keepAlive: true });

  private constructor(credentials: Credentials) {
    this.#credentials = credentials;
  }

  static async open(kubeconfig: string): Promise<KubeRequests> {
    return new KubeRequests(await loadCredentials(kubeconfig));
  }

  /** Throws Error with the answer where it is not 2xx. */
  async send<T>(method: string, path: string, body?: unknown, contentType = 'application/json'): Promise<T> {
    const { tls, headers } = await this.#credentials.current();
    const payload = body === undefined ? undefined : JSON.stringify(body);
    return new Promise((resolve, reject) => {
      const request = httpsRequest(
        `${this.#credentials.server}${path}`,
        {
          ...tls,
          method,
          agent: this.#agent,
          headers: {
            ...headers,
            accept: 'application/json',
            ...(payload === undefined ? {} : { 'content-type': contentType, 'content-length': Buffer.byteLength(payload) }),
          },
        },
        (response) => {
          const chunks: Buffer[] = [];
          response.on('data', (chunk: Buffer) => chunks.push(chunk));
          response.on('error', reject);
          response.on('end', () => {
            const text = Buffer.concat(chunks).toString();
            const status = response.statusCode ?? 0;
            if (status >= 200 && status < 300) resolve(JSON.parse(text) as T);
            else reject(new Error(`${method} ${path} answered ${status}: ${text.slice(0, 500)}`));
          });
        },
      );
      request.on('error', reject);
      request.end(payload);
    });
  }

  /** Passes on what comes to it without TLS, on this host only; ends with the bench. */
  async startProxy(): Promise<CountingProxy> {
    const passed: PassedRequest[] = [];
    const server = createServer((request, response) => {
      passed.push({ at: performance.now(), what: whatOf(request.method ?? '', request.url ?? '') });
      this.#pass(request, response).catch((error: unknown) => response.destroy(error instanceof Error ? error : undefined));
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const folder = mkdtempSync(join(tmpdir(), 'fn-bench-kube-'));
    const kubeconfig = join(folder, 'kubeconfig');
    const named = { name: 'proxy', cluster: { server: `http://127.0.0.1:${(server.address() as AddressInfo).port}` } };
    const contexts = [{ name: 'proxy', context: { cluster: 'proxy', user: 'nobody' } }];
    const users = [{ name: 'nobody', user: {} }];
    writeFileSync(
      kubeconfig,
      JSON.stringify({ apiVersion: 'v1', kind: 'Config', 'current-context': 'proxy', clusters: [named], contexts, users }),
    );
    return {
      kubeconfig,
      passed,
      close: async () => {
        server.closeAllConnections();
        await new Promise<void>((resolve) => server.close(() => resolve()));
        rmSync(folder, { recursive: true, force: true });
      },
    };
  }

  async #pass(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { tls, headers: own } = await this.#credentials.current();
    const { host: _host, ...headers } = request.headers;
    const onward = httpsRequest(
      `${this.#credentials.server}${request.url ?? '/'}`,
      { ...tls, method: request.method, agent: this.#agent, headers: { ...headers, ...own } },
      (answer) => {
        response.writeHead(answer.statusCode ?? 502, answer.headers);
        // A watch says its first word late; whoever asked wants to know at once that it was taken.
        response.flushHeaders();
        answer.pipe(response);
        answer.on('error', () => response.destroy());
      },
    );
    onward.on('error', (error) => response.destroy(error));
    // Whoever watched is gone: the API server need not go on.
    response.on('close', () => onward.destroy());
    request.pipe(onward);
  }

  close(): void {
    this.#agent.destroy();
  }
}

/** `/api/v1/namespaces/NS/pods/NAME/log?follow=true` is `pods/log`. */
function whatOf(method: string, url: string): string {
  const { pathname, searchParams } = new URL(url, 'http://x');
  const parts = pathname.split('/').filter(Boolean);
  const rest = parts.slice(parts[0] === 'api' ? 2 : 3);
  const inNamespace = rest[0] === 'namespaces' && rest.length > 2 ? rest.slice(2) : rest;
  const [kind = pathname, , sub] = inNamespace;
  const watch = searchParams.get('watch') === 'true' || searchParams.get('watch') === '1';
  return `${watch ? 'WATCH' : method} ${sub === undefined ? kind : `${kind}/${sub}`}`;
}
