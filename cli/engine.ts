/** Whether a Docker engine can be had here, and if not, how to get one. */
import { existsSync } from 'node:fs';
import { homedir, platform } from 'node:os';
import { join } from 'node:path';
import type { Target } from './http.ts';
import { readBody, request } from './http.ts';

export type EngineState =
  | { kind: 'ready'; where: string; target: Target }
  /** No socket. `denied`: one that this user may not open. `silent`: one that nothing answers at. */
  | { kind: 'absent' | 'denied' | 'silent'; where: string; detail: string; remedy: string };

const PING_TIMEOUT_MS = 3_000;
const MAX_ANSWER_BYTES = 4 * 1024 * 1024;

/** Looks where the Docker CLI looks: DOCKER_HOST, else the usual sockets. */
export async function findEngine(env: NodeJS.ProcessEnv): Promise<EngineState> {
  const { target, where } = engineTarget(env);
  try {
    const reply = await request(target, { method: 'GET', path: '/_ping', timeoutMs: PING_TIMEOUT_MS });
    await readBody(reply, MAX_ANSWER_BYTES);
    if (reply.status === 200) return { kind: 'ready', where, target };
    return { kind: 'silent', where, detail: `it answered ${reply.status}`, remedy: startRemedy() };
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    const detail = error instanceof Error ? error.message : String(error);
    if (code === 'ENOENT' && env.DOCKER_HOST)
      return { kind: 'absent', where, detail: 'DOCKER_HOST names a socket that is not there', remedy: HOST_REMEDY };
    if (code === 'ENOENT')
      return { kind: 'absent', where, detail: 'no engine is installed, or it is not started', remedy: installRemedy() };
    if (code === 'EACCES' || code === 'EPERM')
      return { kind: 'denied', where, detail: 'this user may not use it', remedy: 'sudo usermod -aG docker "$USER", then log in again' };
    return { kind: 'silent', where, detail, remedy: startRemedy() };
  }
}

/** A JSON answer of the engine's API. */
export async function askEngine(target: Target, path: string): Promise<unknown> {
  const reply = await request(target, { method: 'GET', path, timeoutMs: PING_TIMEOUT_MS });
  return JSON.parse((await readBody(reply, MAX_ANSWER_BYTES)).toString('utf8')) as unknown;
}

function engineTarget(env: NodeJS.ProcessEnv): { target: Target; where: string } {
  const host = env.DOCKER_HOST;
  if (host !== undefined && host !== '') {
    if (host.startsWith('unix://')) return { target: { socketPath: host.slice('unix://'.length) }, where: host };
    if (URL.canParse(host)) return { target: { url: new URL(host.replace(/^tcp:/, 'http:')) }, where: host };
    return { target: { socketPath: host }, where: host };
  }
  const candidates = [
    '/var/run/docker.sock',
    join(env.XDG_RUNTIME_DIR ?? '/nonexistent', 'docker.sock'),
    join(homedir(), '.docker/run/docker.sock'),
  ];
  const socketPath = candidates.find((path) => existsSync(path)) ?? candidates[0]!;
  return { target: { socketPath }, where: socketPath };
}

const HOST_REMEDY =
  'set DOCKER_HOST to the socket of an engine that runs (unix:///PATH), or unset it: the usual sockets are looked at then';

function installRemedy(): string {
  if (platform() === 'darwin') return 'brew install colima docker && colima start';
  if (existsSync('/etc/debian_version')) return 'sudo apt-get install -y docker.io';
  return 'install Docker Engine, see https://docs.docker.com/engine/install/';
}

function startRemedy(): string {
  return platform() === 'darwin' ? 'colima start' : 'sudo systemctl start docker   (or: sudo service docker start)';
}
