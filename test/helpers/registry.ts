/** A registry of images on a loopback port, and Debian's static busybox: fetched by apt, unpacked, never installed. */
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { freePort } from './platform.ts';
import { waitFor } from './wait.ts';

const FETCH_TIMEOUT_MS = 120_000;

/** Where an unpacked Debian package is; kept in fn's cache, so that it is fetched once on a machine. */
export async function debianPackage(name: string): Promise<string> {
  const cache = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'fn', 'tests');
  const folder = join(cache, name);
  if (existsSync(folder)) return folder;
  const work = join(cache, `${name}-${process.pid}`);
  mkdirSync(work, { recursive: true });
  await execa('apt-get', ['download', '-q', name], { cwd: work, timeout: FETCH_TIMEOUT_MS });
  const file = readdirSync(work).find((one) => one.endsWith('.deb'));
  if (file === undefined) throw new Error(`apt-get fetched no package ${name}`);
  await execa('dpkg-deb', ['-x', join(work, file), join(work, 'root')]);
  renameSync(join(work, 'root'), folder);
  rmSync(work, { recursive: true });
  return folder;
}

export interface Registry {
  /** `127.0.0.1:PORT` */
  address: string;
  close(): Promise<void>;
}

/** Starts a registry with its data below `folder`. */
export async function startRegistry(folder: string): Promise<Registry> {
  const root = await debianPackage('docker-registry');
  const address = `127.0.0.1:${await freePort()}`;
  const config = join(folder, 'registry.yml');
  const settings = {
    version: 0.1,
    log: { level: 'error' },
    storage: { filesystem: { rootdirectory: join(folder, 'data') } },
    http: { addr: address },
  };
  // YAML reads JSON.
  writeFileSync(config, JSON.stringify(settings));
  const child: ChildProcess = spawn(join(root, 'usr/bin/docker-registry'), ['serve', config], { stdio: 'ignore' });
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
  await waitFor('the registry to answer', async () => (await fetch(`http://${address}/v2/`)).ok);
  return {
    address,
    async close() {
      child.kill('SIGKILL');
      await ended;
    },
  };
}
