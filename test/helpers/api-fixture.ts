/**
 * The control API on real sockets, over a fake Platform; bundles, secrets, tenants and the audit log
 * are the real ones, over a store in memory and a temporary folder.
 */
import { createHash } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { type IncomingHttpHeaders, request as httpRequest } from 'node:http';
import { connect, type NetConnectOpts } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { pack } from 'tar-stream';
import type { Problem } from '#contract/errors.ts';
import type { Scope, TokenNamespaces } from '#contract/tenancy.ts';
import { systemClock } from '#kit/clock.ts';
import { newSecret } from '#kit/ids.ts';
import { type Log, silentLog } from '#kit/log.ts';
import { type Api, createApi, OWNER } from '../../controller/api/app.ts';
import { API_LIMITS, type ApiLimits } from '../../controller/api/env.ts';
import { type ApiServer, SERVER_LIMITS, type ServerLimits, startApiServer } from '../../controller/api/server.ts';
import type { Audit } from '../../controller/api/platform.ts';
import type { ImageStore } from '../../controller/driver/types.ts';
import { type Revealed, SealedSecrets } from '../../controller/secrets/secrets.ts';
import { openBundleStore } from '../../controller/store/bundles.ts';
import { IN_MEMORY, openSqliteStore } from '../../controller/store/sqlite/store.ts';
import type { Store } from '../../controller/store/types.ts';
import { AuditLog } from '../../controller/tenants/audit.ts';
import { Tenants } from '../../controller/tenants/tenants.ts';
import { FakeEvents } from './fake-events.ts';
import { FakePlatform } from './fake-platform.ts';

export interface Answer {
  status: number;
  headers: IncomingHttpHeaders;
  text: string;
  /** The parsed body, where it is JSON. */
  json: unknown;
  /** The body as a problem; throws where it is none. */
  problem: Problem;
}

export interface Call {
  method?: string;
  path: string;
  headers?: Record<string, string>;
  body?: string | Buffer;
  /** Over the unix socket unless it says tcp. */
  via?: 'unix' | 'tcp';
  /** Over TCP, with this token. */
  token?: string;
}

/** `npm pack` in small: what a client would upload. */
export async function bundleOf(files: Record<string, string>): Promise<{ digest: string; data: Buffer }> {
  const tar = pack();
  // Without a time: the same files are the same bundle, also a second later.
  for (const [name, content] of Object.entries(files)) tar.entry({ name, mtime: new Date(0) }, content);
  tar.finalize();
  const chunks: Uint8Array[] = [];
  for await (const chunk of tar) if (chunk instanceof Uint8Array) chunks.push(chunk);
  const data = gzipSync(Buffer.concat(chunks));
  return { digest: `sha256:${createHash('sha256').update(data).digest('hex')}`, data };
}

export interface FixtureOptions {
  limits?: ApiLimits;
  serverLimits?: ServerLimits;
  images?: ImageStore | null;
  /** In place of the audit log: one that cannot be written, say. */
  audit?: Audit;
}

export class ApiFixture {
  readonly platform = new FakePlatform();
  readonly events = new FakeEvents(this.platform);
  readonly token = newSecret();
  readonly logged: { level: string; fields: Record<string, unknown>; message: string }[] = [];
  readonly folder: string;
  readonly socketPath: string;
  /** Names of secrets that were changed, as the engine is told. */
  readonly changedSecrets: string[] = [];
  #app: Api | null = null;
  #servers: ApiServer[] = [];
  #store: Store | null = null;
  #tenants: Tenants | null = null;
  #secrets: SealedSecrets | null = null;
  port = 0;

  private constructor(folder: string) {
    this.folder = folder;
    this.socketPath = join(folder, 'run', 'control', 's');
  }

  static async start({
    limits = API_LIMITS,
    serverLimits = SERVER_LIMITS,
    images = null,
    audit: given,
  }: FixtureOptions = {}): Promise<ApiFixture> {
    const fixture = new ApiFixture(await mkdtemp(join(tmpdir(), 'fn-api-')));
    const write = (level: string) => (fields: object, message: string) =>
      void fixture.logged.push({ level, fields: { ...fields }, message });
    const log: Log = { ...silentLog, debug: write('debug'), info: write('info'), warn: write('warn'), error: write('error') };
    const bundles = await openBundleStore({ folder: join(fixture.folder, 'bundles') });
    const store = openSqliteStore({ path: IN_MEMORY, log });
    const tenants = await Tenants.open({ store, clock: systemClock, homeToken: fixture.token });
    const secrets = new SealedSecrets({
      store,
      keyFile: join(fixture.folder, 'secret.key'),
      clock: systemClock,
      onChanged: (namespace, name) => void fixture.changedSecrets.push(`${namespace}/${name}`),
    });
    const audit = given ?? new AuditLog({ store, clock: systemClock, log, keep: 10_000 });
    const { platform, events } = fixture;
    const functions = { platform, events };
    const app = createApi({ ...functions, secrets, tenants, audit, bundles, artifacts: store, images, log, version: '1.2.3', limits });
    const unix = await startApiServer({ app, listen: { path: fixture.socketPath }, log, limits: serverLimits });
    const tcp = await startApiServer({ app, listen: { host: '127.0.0.1', port: 0 }, log, limits: serverLimits });
    fixture.#app = app;
    fixture.#servers = [unix, tcp];
    fixture.#store = store;
    fixture.#tenants = tenants;
    fixture.#secrets = secrets;
    fixture.port = Number(new URL(tcp.url).port);
    return fixture;
  }

  async close(): Promise<void> {
    await Promise.all(this.#servers.map((server) => server.close()));
    await this.#store?.close();
    await rm(this.folder, { recursive: true, force: true });
  }

  get app(): Api {
    if (this.#app === null) throw new Error('the fixture has not started');
    return this.#app;
  }

  get store(): Store {
    if (this.#store === null) throw new Error('the fixture has not started');
    return this.#store;
  }

  /** Values in clear, as an instance gets them. */
  async reveal(namespace: string, names: string[]): Promise<Map<string, Revealed>> {
    if (this.#secrets === null) throw new Error('the fixture has not started');
    return this.#secrets.reveal(namespace, names);
  }

  /** Makes a token; returns it and its id. */
  async tokenFor(namespaces: TokenNamespaces, ...scopes: Scope[]): Promise<{ token: string; id: string }> {
    if (this.#tenants === null) throw new Error('the fixture has not started');
    const name = `${scopes.join('+')} of ${namespaces === '*' ? '*' : namespaces.join('+')}`;
    return this.#tenants.createToken(OWNER, { name, scopes, namespaces, expiresAt: null });
  }

  target(via: 'unix' | 'tcp' = 'unix'): NetConnectOpts {
    return via === 'unix' ? { path: this.socketPath } : { host: '127.0.0.1', port: this.port };
  }

  call({ method = 'GET', path, headers: given = {}, body, token, via = token === undefined ? 'unix' : 'tcp' }: Call): Promise<Answer> {
    const headers = token === undefined ? given : { authorization: `Bearer ${token}`, ...given };
    const target = via === 'unix' ? { socketPath: this.socketPath } : { host: '127.0.0.1', port: this.port };
    return new Promise((resolve, reject) => {
      const request = httpRequest(
        {
          ...target,
          method,
          path,
          headers: {
            ...(body === undefined || 'transfer-encoding' in headers ? {} : { 'content-length': String(Buffer.byteLength(body)) }),
            ...headers,
          },
          agent: false,
        },
        (response) => {
          const chunks: Buffer[] = [];
          response.on('data', (chunk: Buffer) => chunks.push(chunk));
          response.on('error', reject);
          response.on('end', () => resolve(answer(response.statusCode ?? 0, response.headers, Buffer.concat(chunks).toString())));
        },
      );
      request.on('error', reject);
      request.end(body);
    });
  }

  json(method: string, path: string, body: unknown, more: Pick<Call, 'token' | 'headers'> = {}): Promise<Answer> {
    const headers = { 'content-type': 'application/json', ...more.headers };
    return this.call({ method, path, ...more, headers, body: JSON.stringify(body) });
  }

  /** Uploads a bundle for a namespace; returns its digest. */
  async upload(files: Record<string, string> = { 'index.mjs': 'export default () => {}' }, namespace = 'default'): Promise<string> {
    const { digest, data } = await bundleOf(files);
    const path = `/v1/namespaces/${namespace}/bundles/${digest}`;
    await this.call({ method: 'PUT', path, headers: { 'content-type': 'application/gzip' }, body: data });
    return digest;
  }

  /** Writes bytes as they are; resolves with all that came back once the other side closed. */
  raw(bytes: string | Buffer, { via = 'unix', keepOpen = true }: { via?: 'unix' | 'tcp'; keepOpen?: boolean } = {}): Promise<string> {
    return new Promise((resolve, reject) => {
      const socket = connect(this.target(via));
      const chunks: Buffer[] = [];
      socket.on('data', (chunk) => chunks.push(chunk));
      // A reset after the answer is what a sender of nonsense may get.
      socket.on('error', (error) => (chunks.length === 0 ? reject(error) : undefined));
      socket.on('close', () => resolve(Buffer.concat(chunks).toString()));
      if (keepOpen) socket.write(bytes);
      else socket.end(bytes);
    });
  }
}

function answer(status: number, headers: IncomingHttpHeaders, text: string): Answer {
  const type = headers['content-type'] ?? '';
  const json: unknown = /[/+]json$/.test(type) && text !== '' ? JSON.parse(text) : undefined;
  return {
    status,
    headers,
    text,
    json,
    get problem() {
      if (type !== 'application/problem+json') throw new Error(`not a problem: ${status} ${type} ${text}`);
      return json as Problem;
    },
  };
}
