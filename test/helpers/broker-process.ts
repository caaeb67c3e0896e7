/** What the brokers of tests have in common: a process on ports of its own, with its data in a folder that goes with it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, openSync, closeSync, readFileSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { waitFor } from './wait.ts';

/** Longest wait for a broker to answer after its start; RabbitMQ takes some seconds. */
const READY_TIMEOUT_MS = 60_000;

export interface Broker {
  /** For triggers and destinations. */
  url: string;
  port: number;
  /** Of the process that runs now. */
  readonly pid: number;
  /** SIGKILL; its data stays. */
  kill(): Promise<void>;
  /** Starts it again after `kill`, on the same port with the same data. */
  restart(): Promise<void>;
  /** Ends it, and removes all that was its. Idempotent. */
  stop(): Promise<void>;
}

export interface BrokerOptions {
  name: string;
  port: number;
  url: string;
  /** Command and arguments; `folder` is its own. */
  command: (folder: string) => { file: string; args: string[]; env?: NodeJS.ProcessEnv };
  /** Throws, or gives false, for as long as it does not answer. */
  ready: () => Promise<boolean>;
}

/** True where something listens. */
export const listens = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => (socket.destroy(), resolve(true)));
    socket.once('error', () => (socket.destroy(), resolve(false)));
  });

/** Starts a broker, and waits until it answers. In a group of its own: all that it starts ends with it. */
export async function startBroker({ name, port, url, command, ready }: BrokerOptions): Promise<Broker> {
  const folder = mkdtempSync(join(tmpdir(), `fn-${name}-`));
  const logFile = join(folder, 'output');
  let child: ChildProcess | null = null;
  let ended: Promise<void> = Promise.resolve();

  const start = async () => {
    const { file, args, env } = command(folder);
    const log = openSync(logFile, 'a');
    const started = spawn(file, args, { cwd: folder, detached: true, stdio: ['ignore', log, log], env: { ...process.env, ...env } });
    closeSync(log);
    child = started;
    let over: string | null = null;
    ended = new Promise((resolve) => {
      started.once('error', (error) => ((over = error.message), resolve()));
      started.once('exit', (code, signal) => ((over = `it ended with ${code ?? signal}`), resolve()));
    });
    const tail = () => readFileSync(logFile, 'utf8').split('\n').slice(-25).join('\n');
    try {
      await waitFor(`${name} to answer`, async () => over !== null || (await ready()), { timeoutMs: READY_TIMEOUT_MS });
    } catch (error) {
      await kill();
      throw new Error(`${name} does not answer\n${tail()}`, { cause: error });
    }
    if (over !== null) throw new Error(`${name} did not start: ${over}\n${tail()}`);
  };
  const kill = async () => {
    const pid = child?.pid;
    child = null;
    if (pid === undefined) return;
    try {
      process.kill(-pid, 'SIGKILL');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    }
    await ended;
    // What it had started dies with it, and perhaps a moment later.
    await waitFor(`${name} to leave its port`, async () => !(await listens(port)));
  };
  // A test run that ends half-way leaves none behind.
  const atExit = () => {
    try {
      if (child?.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
    } catch {
      // It has ended by itself.
    }
  };
  process.once('exit', atExit);
  const stop = async () => {
    process.removeListener('exit', atExit);
    await kill();
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    await start();
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    url,
    port,
    get pid() {
      if (child?.pid === undefined) throw new Error(`${name} does not run`);
      return child.pid;
    },
    kill,
    restart: start,
    stop,
  };
}
