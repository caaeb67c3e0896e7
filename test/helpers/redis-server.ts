/** A redis-server of one's own: on a free port, with a folder of its own, ended with the test that started it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { debianPackage } from './debian-package.ts';
import { freePort } from './platform.ts';
import type { SeparateNet } from './separate-net.ts';
import { sleep, waitFor } from './wait.ts';

/** Of the Debian package where the machine has none: redis-server with the libraries that it names. */
const PACKAGES = ['redis-server', 'redis-tools', 'libatomic1', 'libhiredis0.14', 'libjemalloc2', 'liblua5.1-0', 'liblzf1'];

/** A ping that takes longer is given up, ms: another one follows. */
const PING_MS = 2_000;
/** Ports that are tried: one that was free a moment ago may be somebody else's by now. */
const PORTS_TRIED = 3;

export interface RedisServerOptions {
  /** `always`: an answered write is on the disk. `no` with nothing kept at all is what `off` stands for. */
  appendfsync?: 'always' | 'everysec' | 'no' | 'off';
  /** A folder that outlives the server; without, one that goes with it. */
  dir?: string;
  port?: number;
  password?: string;
  /** Where it runs, if not beside the test. It is ended before that is closed. */
  net?: SeparateNet;
  /** More settings, as on the command line: `{ maxmemory: '64mb' }`. */
  settings?: Record<string, string>;
}

export interface RedisServer {
  /** With the password. */
  readonly url: string;
  readonly port: number;
  /** Of the process that runs now. Throws while none does. */
  readonly pid: number;
  /** As an operator ends it (SIGTERM), and removes its folder. Idempotent. */
  stop(): Promise<void>;
  /** SIGKILL; its folder stays. Resolves when it is gone. */
  kill(): Promise<void>;
  /** SIGTERM; its folder stays. Resolves when it is gone. */
  end(): Promise<void>;
  /** Starts it again on the same port and folder; kills it first where it runs. */
  restart(): Promise<void>;
  /** SIGSTOP: it is there and does not answer. */
  pause(): void;
  resume(): void;
  /** A connection of the test's own, closed with the server. */
  client(): Redis;
}

/** The program, and what it needs in its environment. */
async function program(): Promise<{ command: string; env: NodeJS.ProcessEnv }> {
  const installed = '/usr/bin/redis-server';
  if (existsSync(installed)) return { command: installed, env: {} };
  const root = await debianPackage(...PACKAGES);
  const triplet = process.arch === 'arm64' ? 'aarch64-linux-gnu' : 'x86_64-linux-gnu';
  return {
    command: join(root, 'usr/bin/redis-server'),
    env: { LD_LIBRARY_PATH: `${join(root, 'usr/lib', triplet)}:${join(root, 'lib', triplet)}` },
  };
}

/** What still runs when the test's process ends, whatever the reason, ends with it. */
const running = new Set<ChildProcess>();
process.once('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

class OwnRedis implements RedisServer {
  readonly port: number;
  readonly url: string;
  readonly #host: string;
  /** What its command begins with. */
  readonly #inside: string[];
  readonly #dir: string;
  readonly #ownDir: boolean;
  readonly #args: string[];
  readonly #password: string | undefined;
  readonly #clients: Redis[] = [];
  #child: ChildProcess | null = null;
  #ended: Promise<void> = Promise.resolve();
  #output = '';

  constructor({ appendfsync = 'always', dir, password, net, settings = {} }: RedisServerOptions, port: number) {
    this.port = port;
    this.#ownDir = dir === undefined;
    this.#dir = dir ?? mkdtempSync(join(tmpdir(), 'fn-redis-'));
    this.#password = password;
    this.#host = net?.address ?? '127.0.0.1';
    this.#inside = net?.inside ?? [];
    this.url = `redis://${password === undefined ? '' : `:${encodeURIComponent(password)}@`}${this.#host}:${port}/0`;
    this.#args = ['--port', String(port), '--bind', this.#host, '--protected-mode', 'no', '--dir', this.#dir, '--daemonize', 'no'];
    this.#args.push('--save', '', '--appendonly', appendfsync === 'off' ? 'no' : 'yes', '--maxmemory-policy', 'noeviction');
    if (appendfsync !== 'off') this.#args.push('--appendfsync', appendfsync);
    if (password !== undefined) this.#args.push('--requirepass', password);
    for (const [name, value] of Object.entries(settings)) this.#args.push(`--${name}`, value);
  }

  get pid(): number {
    const pid = this.#child?.pid;
    if (pid === undefined) throw new Error('this redis-server does not run');
    return pid;
  }

  async restart(): Promise<void> {
    await this.kill();
    const { command, env } = await program();
    // Also where the test's process is killed and runs no hook of its own.
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', ...this.#inside, command, ...this.#args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...env },
    });
    const keep = (text: Buffer) => (this.#output = (this.#output + text.toString()).slice(-4_000));
    child.stdout.on('data', keep);
    child.stderr.on('data', keep);
    child.once('error', (error) => (this.#output += error.message));
    this.#child = child;
    running.add(child);
    this.#ended = new Promise((resolve) => {
      child.once('close', () => {
        running.delete(child);
        if (this.#child === child) this.#child = null;
        resolve();
      });
    });
    const probe = this.#connect();
    // Not there yet is what is waited for.
    probe.on('error', () => {});
    try {
      await waitFor('redis-server to answer', () => {
        if (this.#child !== child) return true;
        // A ping of a server that has ended meanwhile, or of somebody else at its port, is answered never.
        const answered = probe.ping().then((answer) => answer === 'PONG');
        return Promise.race([answered, this.#ended.then(() => true), sleep(PING_MS).then(() => false)]);
      });
      if (this.#child !== child) throw new Error(`redis-server ended: ${this.#output}`);
    } finally {
      probe.disconnect();
    }
  }

  async kill(): Promise<void> {
    this.#child?.kill('SIGKILL');
    await this.#ended;
  }

  async end(): Promise<void> {
    this.#child?.kill('SIGTERM');
    await this.#ended;
  }

  pause(): void {
    process.kill(this.pid, 'SIGSTOP');
  }

  resume(): void {
    process.kill(this.pid, 'SIGCONT');
  }

  async stop(): Promise<void> {
    for (const client of this.#clients.splice(0)) client.disconnect();
    const child = this.#child;
    // A paused one takes no notice of SIGTERM until it goes on.
    child?.kill('SIGCONT');
    child?.kill('SIGTERM');
    const timer = setTimeout(() => child?.kill('SIGKILL'), 5_000);
    await this.#ended;
    clearTimeout(timer);
    if (this.#ownDir) rmSync(this.#dir, { recursive: true, force: true });
  }

  client(): Redis {
    const client = this.#connect();
    // Tests kill the server; what a command of theirs then says is what they look at.
    client.on('error', () => {});
    this.#clients.push(client);
    return client;
  }

  #connect(): Redis {
    return new Redis({
      host: this.#host,
      port: this.port,
      ...(this.#password === undefined ? {} : { password: this.#password }),
      retryStrategy: (attempt) => Math.min(200, attempt * 20),
      maxRetriesPerRequest: null,
    });
  }
}

/** Starts one and waits until it answers. End it with stop(); what is forgotten ends with the test's process. */
export async function startRedis(options: RedisServerOptions = {}): Promise<RedisServer> {
  for (let tried = 1; ; tried += 1) {
    const server = new OwnRedis(options, options.port ?? (await freePort()));
    try {
      await server.restart();
      return server;
    } catch (error) {
      await server.stop();
      if (options.port !== undefined || tried === PORTS_TRIED) throw error;
    }
  }
}
