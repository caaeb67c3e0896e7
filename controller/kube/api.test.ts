import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createSecureServer, type ServerHttp2Session } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { silentLog } from '#kit/log.ts';
import { testAuthority } from '../../test/helpers/certificates.ts';
import { connectKubeApi } from './api.ts';
import { CONFIG_MAPS } from './resources.ts';
import { KubeError, KubeUnreachable, type KubeApi } from './types.ts';

type Handler = (request: IncomingMessage, response: ServerResponse, body: string) => void;

const object = (name: string, resourceVersion = '7') => ({
  metadata: { name, uid: `uid-${name}`, resourceVersion, managedFields: [{ manager: 'x' }] },
});

/** A server of the API's shape, which says what a test makes it say. */
class Bench {
  readonly asked: string[] = [];
  handler: Handler = (_, response) => response.end('{}');
  token = 'first';
  #server = createServer((request, response) => {
    let body = '';
    request.on('data', (chunk: Buffer) => (body += chunk.toString()));
    request.on('end', () => {
      this.asked.push(`${request.method} ${request.url}`);
      this.handler(request, response, body);
    });
  });
  api!: KubeApi;

  async start(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    const { port } = this.#server.address() as AddressInfo;
    this.api = connectKubeApi(
      {
        server: `http://127.0.0.1:${port}`,
        proxy: null,
        current: () => Promise.resolve({ tls: {}, headers: { authorization: `Bearer ${this.token}` } }),
        refused: () => void (this.token = 'second'),
      },
      silentLog,
    );
  }

  async stop(): Promise<void> {
    await this.api.close();
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

const json = (response: ServerResponse, status: number, body: unknown, headers: Record<string, string> = {}) => {
  response.writeHead(status, { 'content-type': 'application/json', ...headers });
  response.end(JSON.stringify(body));
};

describe('the connection to an API server', () => {
  let bench: Bench;
  beforeEach(async () => {
    bench = new Bench();
    await bench.start();
  });
  afterEach(() => bench.stop());

  it('reads objects, without who manages their fields', async () => {
    bench.handler = (_, response) => json(response, 200, { ...object('a'), data: { k: 'v' } });
    const found = await bench.api.get(CONFIG_MAPS, 'ns', 'a');
    expect(found).toMatchObject({ metadata: { name: 'a', resourceVersion: '7' }, data: { k: 'v' } });
    expect(found.metadata).not.toHaveProperty('managedFields');
    expect(bench.asked).toEqual(['GET /api/v1/namespaces/ns/configmaps/a']);
  });

  it('reads all pages of a list, and begins again where one has expired', async () => {
    let expired = false;
    bench.handler = ({ url }, response) => {
      if (!url?.includes('continue'))
        return json(response, 200, { metadata: { resourceVersion: '9', continue: 'more' }, items: [object('a')] });
      if (expired) return json(response, 200, { metadata: { resourceVersion: '9' }, items: [object('b')] });
      expired = true;
      json(response, 410, { reason: 'Expired', message: 'too old' });
    };
    const { items, resourceVersion } = await bench.api.list(CONFIG_MAPS, 'ns', { labels: 'a=b' });
    expect(items.map(({ metadata }) => metadata.name)).toEqual(['a', 'b']);
    expect(resourceVersion).toBe('9');
    expect(bench.asked[0]).toBe('GET /api/v1/namespaces/ns/configmaps?labelSelector=a%3Db&limit=500');
    expect(bench.asked).toHaveLength(4);
  });

  it('sends what each kind of patch and deletion is', async () => {
    const sent: [string | undefined, unknown][] = [];
    bench.handler = ({ headers }, response, body) => {
      sent.push([headers['content-type'], JSON.parse(body)]);
      json(response, 200, object('a'));
    };
    await bench.api.patch(CONFIG_MAPS, 'ns', 'a', { type: 'merge', body: { x: 1 } });
    await bench.api.patch(CONFIG_MAPS, 'ns', 'a', { type: 'strategic', body: { x: 1 } }, 'status');
    await bench.api.patch(CONFIG_MAPS, 'ns', 'a', { type: 'json', body: [{ op: 'remove', path: '/x' }] });
    await bench.api.delete(CONFIG_MAPS, 'ns', 'a', { graceSeconds: 1, uid: 'u' });
    expect(sent.map(([type]) => type)).toEqual([
      'application/merge-patch+json',
      'application/strategic-merge-patch+json',
      'application/json-patch+json',
      'application/json',
    ]);
    expect(sent[3]?.[1]).toMatchObject({ gracePeriodSeconds: 1, preconditions: { uid: 'u' } });
    expect(bench.asked[1]).toBe('PATCH /api/v1/namespaces/ns/configmaps/a/status');
    expect([...bench.api.requests]).toEqual([
      ['patch', 3],
      ['delete', 1],
    ]);
  });

  it('tells what the server says from its silence', async () => {
    bench.handler = (_, response) => json(response, 409, { reason: 'Conflict', message: 'changed' });
    await expect(bench.api.get(CONFIG_MAPS, 'ns', 'a')).rejects.toMatchObject({ status: 409, reason: 'Conflict', message: 'changed' });
    bench.handler = (_, response) => response.writeHead(502).end('<html>bad gateway</html>');
    await expect(bench.api.get(CONFIG_MAPS, 'ns', 'a')).rejects.toMatchObject({ status: 502, message: '<html>bad gateway</html>' });
    bench.handler = (request) => request.socket.destroy();
    await expect(bench.api.get(CONFIG_MAPS, 'ns', 'a')).rejects.toBeInstanceOf(KubeUnreachable);
    bench.handler = (_, response) => json(response, 200, { metadata: { labels: 5 } });
    await expect(bench.api.get(CONFIG_MAPS, 'ns', 'a')).rejects.toThrow(/ConfigMap that is not understood: metadata/);
  });

  it('leaves a server alone that asks for it, and gives up after a while', async () => {
    let busy = 1;
    bench.handler = (_, response) =>
      busy-- > 0
        ? json(response, 429, { reason: 'TooManyRequests', message: 'busy' }, { 'retry-after': '0.01' })
        : json(response, 200, object('a'));
    await bench.api.get(CONFIG_MAPS, 'ns', 'a');
    expect(bench.asked).toHaveLength(2);
    busy = 10;
    const error: unknown = await bench.api.get(CONFIG_MAPS, 'ns', 'a').catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(KubeError);
    expect(error).toMatchObject({ reason: 'TooManyRequests', retryAfterMs: 10 });
    expect(bench.asked).toHaveLength(5);
  });

  it('shows who we are anew where it is not known any more, once', async () => {
    const shown: (string | undefined)[] = [];
    bench.handler = ({ headers }, response) => {
      shown.push(headers.authorization);
      if (headers.authorization === 'Bearer first') json(response, 401, { reason: 'Unauthorized', message: 'who?' });
      else json(response, 200, object('a'));
    };
    await bench.api.get(CONFIG_MAPS, 'ns', 'a');
    expect(shown).toEqual(['Bearer first', 'Bearer second']);
    bench.handler = (_, response) => json(response, 401, { reason: 'Unauthorized', message: 'who?' });
    await expect(bench.api.get(CONFIG_MAPS, 'ns', 'a')).rejects.toMatchObject({ status: 401 });
    expect(bench.asked).toHaveLength(4);
  });

  const events = async (signal: AbortSignal = new AbortController().signal) => {
    const seen: string[] = [];
    const watch = bench.api.watch(CONFIG_MAPS, 'ns', { resourceVersion: '5' }, signal);
    const end = await (async () => {
      for await (const event of watch)
        seen.push(event.type === 'bookmark' ? event.resourceVersion : `${event.type} ${event.object.metadata.name}`);
      return 'ended';
    })().catch((error: unknown) => error);
    return { seen, end };
  };

  it('reads a watch: events, bookmarks, its end', async () => {
    bench.handler = (_, response) => {
      const lines = [
        { type: 'ADDED', object: object('a') },
        { type: 'BOOKMARK', object: { metadata: { resourceVersion: '20' } } },
        { type: 'DELETED', object: object('a') },
      ];
      response.end(lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
    };
    expect(await events()).toEqual({ seen: ['added a', '20', 'deleted a'], end: 'ended' });
    expect(bench.asked[0]).toContain('watch=true&allowWatchBookmarks=true&resourceVersion=5&timeoutSeconds=');
  });

  it('tells a watch that has expired from one that broke off and one that was given up', async () => {
    bench.handler = (_, response) => json(response, 410, { reason: 'Gone', message: 'too old' });
    expect((await events()).end).toMatchObject({ reason: 'Expired' });
    bench.handler = (_, response) =>
      response.end(`${JSON.stringify({ type: 'ERROR', object: { reason: 'Expired', code: 410, message: 'too old' } })}\n`);
    expect((await events()).end).toMatchObject({ reason: 'Expired', status: 410 });
    bench.handler = (_, response) => {
      response.write(`${JSON.stringify({ type: 'ADDED', object: object('a') })}\n`, () => response.destroy());
    };
    const broken = await events();
    expect(broken.seen).toEqual(['added a']);
    expect(broken.end).toBeInstanceOf(KubeUnreachable);
    bench.handler = (_, response) => void response.write('\n');
    const reason = new Error('enough');
    const abort = new AbortController();
    const watching = events(abort.signal);
    abort.abort(reason);
    expect((await watching).end).toBe(reason);
  });

  it('does nothing more once it is closed', async () => {
    await bench.api.close();
    await bench.api.close();
    await expect(bench.api.get(CONFIG_MAPS, 'ns', 'a')).rejects.toThrow();
  });
});

describe('a connection whose other end is gone', () => {
  it('is used no more once a request on it was not answered in time: the next one goes over another', async () => {
    const authority = testAuthority();
    const server = createSecureServer({ ...authority.issue('localhost'), allowHTTP1: true });
    const sessions: ServerHttp2Session[] = [];
    server.on('session', (session) => sessions.push(session));
    // One connection takes all, and nothing on the first is ever answered.
    server.on('stream', (stream) => {
      stream.on('error', () => {});
      if (stream.session === sessions[0]) return;
      stream.respond({ ':status': 200, 'content-type': 'application/json' });
      stream.end(JSON.stringify(object('a')));
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const current = () => Promise.resolve({ tls: { ca: authority.cert, servername: 'localhost' }, headers: {} });
    const api = connectKubeApi({ server: `https://localhost:${port}`, proxy: null, current, refused: () => {} }, silentLog);
    try {
      const hasty = { ...CONFIG_MAPS, timeoutMs: 3_000 };
      await expect(api.get(hasty, 'ns', 'a')).rejects.toBeInstanceOf(KubeUnreachable);
      expect(sessions).toHaveLength(1);
      expect((await api.get(CONFIG_MAPS, 'ns', 'a')).metadata.name).toBe('a');
    } finally {
      await api.close();
      for (const session of sessions) session.destroy();
      await new Promise((resolve) => server.close(resolve));
    }
  });
});
