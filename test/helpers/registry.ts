/** A registry of images on a loopback port, and Debian's static busybox: fetched by apt, unpacked, never installed. */
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { execa } from 'execa';
import { TEST_CACHE } from './cache.ts';
import { freePort } from './platform.ts';
import { waitFor } from './wait.ts';

const FETCH_TIMEOUT_MS = 120_000;

/** Where Debian packages are, unpacked into one folder; kept in fn's cache, so that they are fetched once on a machine. */
export async function debianPackage(...names: string[]): Promise<string> {
  const folder = join(TEST_CACHE, names.join('+'));
  if (existsSync(folder)) return folder;
  const work = join(TEST_CACHE, `${names[0]}-${process.pid}`);
  mkdirSync(work, { recursive: true });
  await execa('apt-get', ['download', '-q', ...names], { cwd: work, timeout: FETCH_TIMEOUT_MS });
  const files = readdirSync(work).filter((one) => one.endsWith('.deb'));
  if (files.length !== names.length) throw new Error(`apt-get fetched ${files.join(', ')} for ${names.join(', ')}`);
  for (const file of files) await execa('dpkg-deb', ['-x', join(work, file), join(work, 'root')]);
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
