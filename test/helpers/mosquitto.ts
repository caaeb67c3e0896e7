/** A mosquitto (MQTT 3.1.1 and 5) that keeps sessions over a restart. */
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Broker, listens, startBroker } from './broker-process.ts';
import { freePort } from './platform.ts';

export async function startMosquitto({ user = null as { name: string; password: string } | null } = {}): Promise<Broker> {
  const port = await freePort();
  return startBroker({
    name: 'mosquitto',
    port,
    url: `mqtt://127.0.0.1:${port}`,
    command: (folder) => {
      const config = join(folder, 'mosquitto.conf');
      const passwords = join(folder, 'passwords');
      if (user !== null) spawnSync('mosquitto_passwd', ['-b', '-c', passwords, user.name, user.password]);
      const lines = [
        `listener ${port} 127.0.0.1`,
        user === null ? 'allow_anonymous true' : `password_file ${passwords}`,
        // As root it would become another user, who cannot write here.
        'user root',
        'persistence true',
        `persistence_location ${folder}/`,
        // Written at each change: a SIGKILL loses nothing.
        'autosave_on_changes true',
        'autosave_interval 1',
        'max_queued_messages 100000',
        'set_tcp_nodelay true',
      ];
      writeFileSync(config, `${lines.join('\n')}\n`);
      return { file: 'mosquitto', args: ['-c', config] };
    },
    ready: () => listens(port),
  });
}
