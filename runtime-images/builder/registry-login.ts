/** The login for a registry, as `docker login` keeps it, in the form that the engine wants. */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';

/** A helper may ask a keychain, and that a person. */
const HELPER_TIMEOUT_MS = 60_000;

/** What Docker calls its own registry in its files. */
const DOCKER_HUB = 'https://index.docker.io/v1/';

const Config = z.object({
  auths: z.record(z.string(), z.object({ auth: z.string().optional(), identitytoken: z.string().optional() })).default({}),
  credsStore: z.string().optional(),
  credHelpers: z.record(z.string(), z.string()).default({}),
});
const Credentials = z.object({ Username: z.string(), Secret: z.string() });

/** As the header X-Registry-Auth takes it. Empty: nobody logged in, which a registry without accounts accepts. */
export type RegistryLogin = Readonly<Record<string, string>>;

/** `registry.example:5000/team/gateway` → `registry.example:5000`; without a host it is Docker's own. */
export function registryOf(repository: string): string {
  const first = repository.split('/')[0]!;
  const isHost = repository.includes('/') && (first.includes('.') || first.includes(':') || first === 'localhost');
  return isHost ? first : 'docker.io';
}

/** Reads $DOCKER_CONFIG/config.json or ~/.docker/config.json, and asks the helper that it names. Throws where that fails. */
export async function registryLogin(repository: string, env: NodeJS.ProcessEnv): Promise<RegistryLogin> {
  const path = join(env.DOCKER_CONFIG || join(homedir(), '.docker'), 'config.json');
  const config = readConfig(path);
  if (config === null) return {};
  const registry = registryOf(repository);
  const names = registry === 'docker.io' ? [DOCKER_HUB, registry] : [registry, `https://${registry}`];
  for (const serveraddress of names) {
    const helper = config.credHelpers[serveraddress] ?? config.credsStore;
    const entry = config.auths[serveraddress];
    if (helper !== undefined && (entry !== undefined || config.credHelpers[serveraddress] !== undefined)) {
      const found = await askHelper(helper, serveraddress, env);
      if (found !== null) return { serveraddress, ...found };
    }
    if (entry?.identitytoken) return { serveraddress, identitytoken: entry.identitytoken };
    if (entry?.auth) return { serveraddress, ...decode(entry.auth, path) };
  }
  return {};
}

function readConfig(path: string): z.infer<typeof Config> | null {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null; // never logged in anywhere
    throw error;
  }
  try {
    return Config.parse(JSON.parse(text));
  } catch (error) {
    throw new Error(`${path} is not a configuration of Docker: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  }
}

/** `base64(user:password)`, as in HTTP. */
function decode(auth: string, path: string): RegistryLogin {
  const text = Buffer.from(auth, 'base64').toString('utf8');
  const colon = text.indexOf(':');
  if (colon < 1) throw new Error(`${path}: an entry "auth" is not base64 of USER:PASSWORD; run docker login again`);
  // Docker pads it with NUL.
  return { username: text.slice(0, colon), password: text.slice(colon + 1).replace(/\0+$/, '') };
}

/** Runs docker-credential-HELPER, whose protocol is the name on stdin and JSON on stdout; null where it knows of no login. */
async function askHelper(helper: string, serveraddress: string, env: NodeJS.ProcessEnv): Promise<RegistryLogin | null> {
  const command = `docker-credential-${helper}`;
  const said = await new Promise<string | null>((resolve, reject) => {
    const child = execFile(command, ['get'], { env, timeout: HELPER_TIMEOUT_MS }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else if (/credentials not found/i.test(`${stdout}${stderr}`)) resolve(null);
      else reject(new Error(`${command} failed: ${(stderr || stdout).trim() || error.message}`, { cause: error }));
    });
    child.stdin?.on('error', () => {}); // it ended before it read: its exit says why
    child.stdin?.end(serveraddress);
  });
  if (said === null) return null;
  const { Username, Secret } = Credentials.parse(JSON.parse(said));
  return Username === '<token>' ? { identitytoken: Secret } : { username: Username, password: Secret };
}
