/** A registry of images on a loopback port. */
import { spawn, type ChildProcess } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { debianPackage } from './debian-package.ts';
import { freePort } from './platform.ts';
import { waitFor } from './wait.ts';

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
