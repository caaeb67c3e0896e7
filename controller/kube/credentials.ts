/**
 * Where the API server is and how we show who we are: the pod's service account, or a kubeconfig. Of the Kubernetes client only
 * what reads a kubeconfig and runs its plugins is loaded (all of it takes 90 MB), and nothing at all of it in a pod.
 */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { isIPv6 } from 'node:net';
import { homedir } from 'node:os';
import { delimiter, dirname, join, resolve } from 'node:path';
import type { Cluster, User } from '@kubernetes/client-node/dist/config_types.js';
import { SettingsWrong } from '#kit/settings-wrong.ts';
import { parse } from 'yaml';
import { z } from 'zod';

const ACCOUNT = '/var/run/secrets/kubernetes.io/serviceaccount';
/** Tokens of service accounts are valid for an hour and replaced in their file some ten minutes before. */
const TOKEN_AGE_MS = 60_000;

export interface TlsMaterial {
  ca?: string | Buffer;
  cert?: string | Buffer;
  key?: string | Buffer;
  servername?: string;
  rejectUnauthorized?: boolean;
}

export interface Identity {
  tls: TlsMaterial;
  headers: Record<string, string>;
}

export interface Credentials {
  /** `https://10.96.0.1:443`, without a slash at its end. */
  readonly server: string;
  /** http://, https:// or socks5://, where the kubeconfig says so. */
  readonly proxy: string | null;
  /** For the next request. Cheap: what was read is kept as long as it is good. */
  current(): Promise<Identity>;
  /** The server did not know us (401): everything is read again. */
  refused(): void;
}

/** Throws Error with what to do where there is nothing to reach a cluster by. */
export async function loadCredentials(
  kubeconfig: string | null,
  env: Readonly<Record<string, string | undefined>> = process.env,
): Promise<Credentials> {
  const host = env.KUBERNETES_SERVICE_HOST;
  if (kubeconfig === null && host !== undefined && existsSync(join(ACCOUNT, 'token')))
    return serviceAccount(host, env.KUBERNETES_SERVICE_PORT ?? '443', ACCOUNT);
  return fromKubeconfig(kubeconfig === null ? kubectlFiles(env) : [kubeconfig]);
}

/** Those that kubectl would read. */
function kubectlFiles(env: Readonly<Record<string, string | undefined>>): string[] {
  const named = (env.KUBECONFIG ?? '').split(delimiter).filter((file) => file !== '');
  const files = (named.length > 0 ? named : [join(homedir(), '.kube', 'config')]).filter((file) => existsSync(file));
  if (files.length === 0)
    throw new SettingsWrong(
      `There is no kubeconfig${named.length > 0 ? ` at ${named.join(', ')}` : ''}: set KUBECONFIG, or kubeconfig in FN_KUBERNETES, to the file that kubectl uses for the cluster.`,
    );
  return files;
}

export function serviceAccount(host: string, port: string, folder: string): Credentials {
  let read: { token: string; ca: Buffer; at: number } | null = null;
  return {
    server: `https://${isIPv6(host) ? `[${host}]` : host}:${port}`,
    proxy: null,
    async current() {
      if (read === null || performance.now() - read.at > TOKEN_AGE_MS) {
        const [token, ca] = await Promise.all([readFile(join(folder, 'token'), 'utf8'), readFile(join(folder, 'ca.crt'))]);
        read = { token: token.trim(), ca, at: performance.now() };
      }
      return { tls: { ca: read.ca }, headers: { authorization: `Bearer ${read.token}` } };
    },
    refused() {
      read = null;
    },
  };
}

const Kubeconfig = z.looseObject({
  'current-context': z.string().optional(),
  clusters: z.array(z.looseObject({ name: z.string() })).nullish(),
  users: z.array(z.looseObject({ name: z.string() })).nullish(),
  contexts: z
    .array(z.looseObject({ name: z.string(), context: z.looseObject({ cluster: z.string(), user: z.string().default('') }) }))
    .nullish(),
});

interface Chosen {
  cluster: Cluster;
  user: User;
}

/** What is said first counts, as kubectl has it where KUBECONFIG names several files. */
async function fromKubeconfig(files: readonly string[]): Promise<Credentials> {
  const { cluster, user } = await choose(files);
  if (cluster.server.startsWith('http:') && user.token !== undefined) throw new Error(`${files[0]}: a token is not sent over http:`);
  let identify: Promise<Identify> | null = null;
  let read: TlsMaterial | null = null;
  return {
    server: cluster.server,
    proxy: cluster.proxyUrl ?? null,
    async current() {
      read ??= await tlsMaterial(cluster, user);
      const { headers, tls } = await (await (identify ??= authenticator(user)))();
      if (user.impersonateUser) headers['impersonate-user'] = user.impersonateUser;
      return { tls: { ...read, ...tls }, headers };
    },
    refused() {
      read = null;
      identify = null;
    },
  };
}

async function choose(files: readonly string[]): Promise<Chosen> {
  const { newClusters, newUsers } = await import('@kubernetes/client-node/dist/config_types.js');
  const read = await Promise.all(files.map(async (file) => ({ file, config: Kubeconfig.parse(parse(await readFile(file, 'utf8'))) })));
  const name = read.map(({ config }) => config['current-context']).find((each) => each !== undefined && each !== '');
  if (name === undefined) throw new Error(`${files.join(', ')}: no current-context: kubectl config use-context NAME sets one.`);
  const context = read.flatMap(({ config }) => config.contexts ?? []).find((each) => each.name === name)?.context;
  if (context === undefined) throw new Error(`${files.join(', ')}: there is no context ${name}.`);
  for (const { file, config } of read) {
    const folder = dirname(resolve(file));
    const absolute = (path: string | undefined) => (path === undefined || path === '' ? path : resolve(folder, path));
    const entry = (config.clusters ?? []).find((each) => each.name === context.cluster);
    if (entry === undefined) continue;
    const [cluster] = newClusters([entry]);
    const owner = read.find((each) => (each.config.users ?? []).some((user) => user.name === context.user));
    const [user] = newUsers((owner?.config.users ?? []).filter((each) => each.name === context.user));
    const userFolder = dirname(resolve(owner?.file ?? file));
    const ofUser = (path: string | undefined) => (path === undefined || path === '' ? path : resolve(userFolder, path));
    if (cluster === undefined) continue;
    return {
      cluster: { ...cluster, caFile: absolute(cluster.caFile) },
      user: { ...(user ?? { name: context.user }), certFile: ofUser(user?.certFile), keyFile: ofUser(user?.keyFile) },
    };
  }
  throw new Error(`${files.join(', ')}: there is no cluster ${context.cluster}.`);
}

/** Of a file, or as base64 in the kubeconfig, which wins. */
async function fileOrData(file: string | undefined, data: string | undefined): Promise<Buffer | undefined> {
  if (data) return Buffer.from(data, 'base64');
  return file ? readFile(file) : undefined;
}

async function tlsMaterial(cluster: Cluster, user: User): Promise<TlsMaterial> {
  const [ca, cert, key] = await Promise.all([
    fileOrData(cluster.caFile, cluster.caData),
    fileOrData(user.certFile, user.certData),
    fileOrData(user.keyFile, user.keyData),
  ]);
  return {
    ...(ca && { ca }),
    ...(cert && { cert }),
    ...(key && { key }),
    ...(cluster.tlsServerName && { servername: cluster.tlsServerName }),
    ...(cluster.skipTLSVerify && { rejectUnauthorized: false }),
  };
}

type Identify = () => Promise<Identity>;

/** What a client of ours fills in of a request's options. */
interface Filled {
  headers: Record<string, string>;
  cert?: string;
  key?: string;
}

/** How the user of a kubeconfig shows who it is. Plugins and providers keep what they got until it expires. */
async function authenticator(user: User): Promise<Identify> {
  const { token } = user;
  if (token) return () => Promise.resolve({ tls: {}, headers: { authorization: `Bearer ${token.trim()}` } });
  if (user.username) {
    const basic = Buffer.from(`${user.username}:${user.password ?? ''}`).toString('base64');
    return () => Promise.resolve({ tls: {}, headers: { authorization: `Basic ${basic}` } });
  }
  const plugin = await pluginOf(user);
  if (plugin === null) return () => Promise.resolve({ tls: {}, headers: {} });
  return async () => {
    const filled: Filled = { headers: {} };
    await plugin(filled);
    const tls = filled.cert && filled.key ? { cert: filled.cert, key: filled.key } : {};
    const headers = Object.fromEntries(Object.entries(filled.headers).map(([name, value]) => [name.toLowerCase(), value]));
    return { tls, headers };
  };
}

async function pluginOf(user: User): Promise<((filled: Filled) => Promise<void>) | null> {
  const { ExecAuth } = await import('@kubernetes/client-node/dist/exec_auth.js');
  const exec = new ExecAuth();
  if (exec.isAuthProvider(user)) return (filled) => exec.applyAuthentication(user, filled);
  const provider: unknown = user.authProvider?.name;
  if (provider === undefined) return null;
  if (provider === 'oidc') {
    // It alone needs most of the client.
    const { OpenIDConnectAuth } = await import('@kubernetes/client-node/dist/oidc_auth.js');
    const oidc = new OpenIDConnectAuth();
    return (filled) => oidc.applyAuthentication(user, filled);
  }
  throw new Error(
    `The kubeconfig's user ${user.name} has the auth provider ${String(provider)}, which Kubernetes itself has given up: use its exec plugin.`,
  );
}
