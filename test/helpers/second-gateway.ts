/** Another gateway of a platform: a process of its own on the controller's link, as on a second machine. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { call, type CallOptions, type Answer } from './http.ts';
import { freePort, type TestPlatform } from './platform.ts';
import { ROOT } from './root.ts';
import { waitFor } from './wait.ts';

/** What it says beside what it was told to listen on is kept for a failed test, characters. */
const MAX_OUTPUT = 20_000;

export class SecondGateway {
  readonly url: string;
  readonly tlsPort: number;
  readonly #child: ChildProcess;
  #output = '';

  private constructor(platform: TestPlatform, port: number, tlsPort: number, env: Record<string, string>) {
    this.url = `http://127.0.0.1:${port}`;
    this.tlsPort = tlsPort;
    this.#child = spawn(process.execPath, [join(ROOT, 'gateway', 'main.ts')], {
      env: {
        // Unless it dials over the network.
        ...('FN_LINK' in env ? {} : { FN_LINK_SOCKET: join(platform.runDir, 'link', 's') }),
        FN_LISTEN: `127.0.0.1:${port}`,
        FN_TLS_LISTEN: `127.0.0.1:${tlsPort}`,
        FN_PUBLIC_URL: platform.url,
        FN_GATEWAY_ID: 'second',
        FN_LOG_LEVEL: 'warn',
        ...env,
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    for (const stream of [this.#child.stdout!, this.#child.stderr!])
      stream.on('data', (chunk: Buffer) => (this.#output = (this.#output + chunk.toString()).slice(-MAX_OUTPUT)));
  }

  /** Resolves when it is ready for requests. */
  static async start(platform: TestPlatform, env: Record<string, string> = {}): Promise<SecondGateway> {
    const gateway = new SecondGateway(platform, await freePort(), await freePort(), env);
    try {
      await waitFor('the second gateway', async () => {
        if (gateway.ended) throw new Error(`it ended\n${gateway.#output}`);
        return (await gateway.call('/.fn/ready')).status === 200;
      });
    } catch (error) {
      await gateway.kill();
      throw error;
    }
    return gateway;
  }

  get ended(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  call(path: string, options: CallOptions = {}): Promise<Answer> {
    return call(`${this.url}${path}`, options);
  }

  /** At once, as a crash does, or with a signal that it may answer. Idempotent. */
  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    if (this.ended) return;
    const exited = once(this.#child, 'exit');
    this.#child.kill(signal);
    await exited;
  }
}
