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

/** Starts a registry with its data below `folder`. `htpasswd`: a line `USER:BCRYPT` of who alone may use it; else everybody may. */
export async function startRegistry(folder: string, htpasswd: string | null = null): Promise<Registry> {
  const root = await debianPackage('docker-registry');
  const address = `127.0.0.1:${await freePort()}`;
  const config = join(folder, 'registry.yml');
  const settings = {
    version: 0.1,
    log: { level: 'error' },
    storage: { filesystem: { rootdirectory: join(folder, 'data') } },
    http: { addr: address },
    ...(htpasswd === null ? {} : { auth: { htpasswd: { realm: 'registry', path: join(folder, 'htpasswd') } } }),
  };
  if (htpasswd !== null) writeFileSync(join(folder, 'htpasswd'), `${htpasswd}\n`);
  // YAML reads JSON.
  writeFileSync(config, JSON.stringify(settings));
  const child: ChildProcess = spawn(join(root, 'usr/bin/docker-registry'), ['serve', config], { stdio: 'ignore' });
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
  await waitFor('the registry to answer', async () => [200, 401].includes((await fetch(`http://${address}/v2/`)).status));
  return {
    address,
    async close() {
      child.kill('SIGKILL');
      await ended;
    },
  };
}
