/**
 * A whole platform for a test, started and used the way users do: through ./fn, in a home of its
 * own on a free port. Whatever happens to the test, what it started is ended and nothing is left;
 * leaks are reported as a failure of the suite.
 */
import { randomInt } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { execa } from 'execa';
import { type InstanceView, PlatformStatus } from '#contract/api.ts';
import { homePaths } from '#kit/paths.ts';
import { type Answer, type CallOptions, call } from './http.ts';
import { findLeaks, heldNetworksOf, removeLeftovers } from './leaks.ts';
import { type PlatformCluster, prepareCluster } from './platform-cluster.ts';
import { ROOT } from './root.ts';
import { waitFor } from './wait.ts';

/** `kubernetes`: gateway and controller on this host, instances in the cluster of the tests. */
export type DriverName = 'docker' | 'process' | 'kubernetes';

/** Longest a CLI command may take. `up` builds nothing here: npm test has built the images. */
const COMMAND_TIMEOUT_MS = 180_000;

/** Lines of each log that are shown where something is left. */
const LAST_WORDS = 20;

/** Folder of all homes of this run: swept by test/setup/global.ts at the end. Short, for socket paths. */
export const RUN_FOLDER = process.env.FN_TEST_FOLDER ?? '/tmp/fnt-0';

export interface StartOptions {
  driver: DriverName;
  /** Settings of controller and gateway (FN_…). */
  env?: Record<string, string>;
  /** The project folder whose ./fn is run. */
  root?: string;
  /** More flags of `fn up`. */
  upFlags?: string[];
}

export interface CommandOptions {
  input?: string;
  timeoutMs?: number;
  cwd?: string;
  /** Beside, and before, the platform's own: FN_URL and FN_TOKEN of another caller, say. */
  env?: Record<string, string>;
}

export interface CommandResult {
  code: number;
  stdout: string;
  stderr: string;
}

export interface DeployOptions {
  /** File name of inline source. Default handler.ts. */
  file?: string;
  /** More flags, as on the command line. */
  flags?: string[];
  /** Return a refused deployment in place of throwing. */
  mayFail?: boolean;
}

export interface Deployed extends CommandResult {
  url: string;
}

/**
 * Below those that Linux gives to connections, and those that a cluster gives to services: nobody who connects meanwhile, or
 * again and again, can be given it. One in four: the next ones are its owner's, too, as metrics are served on several in a row.
 */
const FREE_PORTS = { from: 12_000, to: 30_000, step: 4 };

/** Whether no other test of this run, in whatever worker, has been given the port, nor is from now on. */
function reserved(port: number): boolean {
  if (process.env.FN_TEST_FOLDER === undefined) return true;
  try {
    writeFileSync(join(RUN_FOLDER, 't', `port-${port}`), '', { flag: 'wx' });
    return true;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST') return false;
    throw error;
  }
}

/** A port that was free a moment ago, that no other test has, and that stays so while what listened on it is started again. */
export async function freePort(): Promise<number> {
  for (let attempt = 0; attempt < 100; attempt++) {
    const port = FREE_PORTS.step * randomInt(FREE_PORTS.from / FREE_PORTS.step, FREE_PORTS.to / FREE_PORTS.step);
    const server = createServer();
    const listening = await new Promise<boolean>((resolve) => {
      server.once('error', () => resolve(false));
      server.listen(port, '127.0.0.1', () => resolve(true));
    });
    if (!listening) continue;
    await new Promise((resolve) => server.close(resolve));
    if (reserved(port)) return port;
  }
  throw new Error('no port');
}

export class TestPlatform {
  readonly driver: DriverName;
  readonly home: string;
  readonly homeId: string;
  readonly runDir: string;
  readonly port: number;
  readonly url: string;
  readonly dockerHost: string | undefined;
  readonly #env: Record<string, string>;
  readonly #root: string;
  readonly #upFlags: string[];
  /** With the driver kubernetes: where its pods are. */
  cluster: PlatformCluster | null = null;
  #sources = 0;

  constructor(options: StartOptions, port: number) {
    mkdirSync(RUN_FOLDER, { recursive: true });
    this.driver = options.driver;
    this.home = mkdtempSync(join(RUN_FOLDER, 'h-'));
    const paths = homePaths(this.home);
    this.homeId = paths.homeId;
    this.runDir = paths.runDir;
    this.port = port;
    this.url = `http://127.0.0.1:${port}`;
    this.dockerHost = options.env?.DOCKER_HOST;
    this.#env = { FN_LOG_LEVEL: 'info', ...options.env, FN_HOME: this.home };
    this.#root = options.root ?? ROOT;
    this.#upFlags = options.upFlags ?? [];
  }

  /** Runs ./fn with this home; in the project's folder, unless another is named. */
  async fn(
    args: string[],
    { input, timeoutMs = COMMAND_TIMEOUT_MS, cwd = this.#root, env = {} }: CommandOptions = {},
  ): Promise<CommandResult> {
    const run = await execa(join(this.#root, 'fn'), args, {
      cwd,
      env: { ...this.#env, ...env },
      reject: false,
      timeout: timeoutMs,
      ...(input === undefined ? { stdin: 'ignore' as const } : { input }),
      stripFinalNewline: false,
    });
    if (run.timedOut) throw new Error(`fn ${args.join(' ')} did not end within ${timeoutMs} ms\n${run.stderr}`);
    return { code: run.exitCode ?? -1, stdout: run.stdout, stderr: run.stderr };
  }

  /** Runs ./fn and throws when it fails. */
  async fnOk(args: string[], options: CommandOptions = {}): Promise<CommandResult> {
    const result = await this.fn(args, options);
    if (result.code !== 0) throw new Error(`fn ${args.join(' ')} ended with ${result.code}\n${result.stderr}${result.stdout}`);
    return result;
  }

  async up(): Promise<void> {
    await this.fnOk(['up', '--detach', '--home', this.home, '--port', String(this.port), '--driver', this.driver, ...this.#upFlags]);
  }

  async down(): Promise<CommandResult> {
    return this.fn(['down', '--home', this.home]);
  }

  /** Ends the platform, by force where it must; returns what was left behind. */
  async dispose(): Promise<string[]> {
    const left: string[] = [];
    let words = '';
    const from = performance.now();
    try {
      const { code, stderr } = await this.down();
      words = `fn down ended with ${code} after ${Math.round(performance.now() - from)} ms: ${stderr.trim()}`;
      if (code !== 0) left.push(words);
    } catch (error) {
      words = String(error);
      left.push(words);
    }
    left.push(...(await findLeaks(this)), ...((await this.cluster?.dispose()) ?? []));
    for (const name of await heldNetworksOf(this)) if (!words.includes(name)) left.push(`fn down does not say that Docker holds ${name}`);
    // Of a long list only the end may be seen: why it is so stands there.
    if (left.length > 0) left.push(`${this.driver}, ${this.home}: ${words}`, ...this.#lastWords());
    await removeLeftovers(this);
    rmSync(this.home, { recursive: true, force: true });
    return left;
  }

  /** What supervisor and controller said at last that somebody should look at: the logs go with the home. */
  #lastWords(): string[] {
    return ['supervisor', 'controller'].flatMap((name) => {
      const file = join(this.home, 'logs', `${name}.log`);
      if (!existsSync(file)) return [];
      return readFileSync(file, 'utf8')
        .split('\n')
        .filter((line) => /"level":"(?:warn|error)"/.test(line))
        .slice(-LAST_WORDS);
    });
  }

  /** Deploys a file or folder of the project, or inline source (what holds a newline or `export`). */
  async deploy(name: string, source: string, { file = 'handler.ts', flags = [], mayFail = false }: DeployOptions = {}): Promise<Deployed> {
    const path = /\n|export |module\.exports/.test(source) ? this.write(source, file) : join(this.#root, source);
    const result = await this.fn(['deploy', path, '--name', name, ...flags]);
    if (result.code !== 0 && !mayFail) throw new Error(`fn deploy of ${name} ended with ${result.code}\n${result.stderr}`);
    return { ...result, url: result.stdout.trim() };
  }

  /** Writes inline source to a fresh folder; returns its path. */
  write(source: string, file = 'handler.ts'): string {
    const folder = join(this.home, 'src', String(this.#sources++));
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, file), source);
    return join(folder, file);
  }

  call(path: string, options: CallOptions = {}): Promise<Answer> {
    return call(`${this.url}${path}`, options);
  }

  /** What `fn status --json` prints, asked of the control socket: cheap enough to poll. */
  async status(): Promise<PlatformStatus> {
    const answer = await call('http://fn/v1/status', { socketPath: join(this.runDir, 'control', 's'), timeoutMs: 30_000 });
    if (answer.status !== 200) throw new Error(`status answered ${answer.status}: ${answer.text}`);
    return PlatformStatus.parse(answer.json());
  }

  /** Instances of a function. */
  async instances(name: string): Promise<InstanceView[]> {
    return (await this.status()).instances.filter((instance) => instance.function === name);
  }

  /** One that serves. On a cluster, those that are on their way out are told of for some seconds. */
  async servingInstance(name: string): Promise<InstanceView> {
    return waitFor(`an instance of ${name}`, async () =>
      (await this.instances(name)).find(({ state }) => state === 'idle' || state === 'busy'),
    );
  }

  /** Waits until no instance of the function is left. */
  async scaledToZero(name: string, timeoutMs = 60_000): Promise<void> {
    await waitFor(`${name} to scale to zero`, async () => (await this.instances(name)).length === 0, { timeoutMs, everyMs: 200 });
  }

  /** Waits until so many generic instances are ready in the pools. */
  async pooled(count = 1, timeoutMs = 60_000): Promise<void> {
    await waitFor(
      `${count} generic instances`,
      async () => (await this.status()).instances.filter((instance) => instance.state === 'generic').length >= count,
      { timeoutMs, everyMs: 200 },
    );
  }

  /** The process of an instance dies, and nobody was told that it would. */
  async killInstance({ id, pid }: InstanceView): Promise<void> {
    const victim = this.cluster === null ? pid : await this.cluster.pidOf(id);
    if (victim === undefined) throw new Error(`nobody knows the process of ${id}`);
    process.kill(victim, 'SIGKILL');
  }

  /** Pid of a part, as status tells it. */
  async pid(part: 'gateway' | 'controller'): Promise<number> {
    const pid = (await this.status())[part].pid;
    if (pid === null) throw new Error(`${part} is not running`);
    return pid;
  }
}

/** Starts a platform and waits until it is ready for requests. */
export async function startPlatform(options: StartOptions): Promise<TestPlatform> {
  const cluster = options.driver === 'kubernetes' ? await prepareCluster() : null;
  const platform = new TestPlatform(cluster === null ? options : { ...options, env: { ...cluster.env, ...options.env } }, await freePort());
  platform.cluster = cluster;
  try {
    await platform.up();
  } catch (error) {
    await platform.dispose();
    throw error;
  }
  return platform;
}
