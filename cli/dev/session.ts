/**
 * `fn dev`: a platform of its own for one project, which follows the project's files. It is the very
 * platform that `fn up` starts, with plain processes in place of containers unless told otherwise, so
 * that URLs, routes, limits in time, errors and logs are those of later.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import type { LogEntry } from '#contract/api.ts';
import type { ApiClient } from '../client.ts';
import { connect } from '../client.ts';
import type { Context } from '../context.ts';
import { painter, say } from '../context.ts';
import type { Deployable, Outcome } from '../deploy-all.ts';
import { deployAll, deployedViews } from '../deploy-all.ts';
import { readAssignments } from '../env-file.ts';
import type { CliError } from '../errors.ts';
import { renderError, toCliError, usageError } from '../errors.ts';
import { readLogs } from '../log-reader.ts';
import { formatMs } from '../output.ts';
import { Supervisor } from '../supervisor/supervisor.ts';
import { DebuggerPort, inspectorLine } from './debugger.ts';
import { renderLine } from './lines.ts';
import { watchProject } from './watch.ts';

/** A function at a breakpoint answers when the person goes on: an hour is as good as for ever. */
const INSPECTED_TIMEOUT_SECONDS = 3_600;
const INSPECTED_KEEP_ALIVE_SECONDS = 86_400;

/** What is served: read anew at each change. */
export interface Project {
  /** Folders and files whose change is a reload. */
  watched: readonly string[];
  /** For people. */
  label: string;
  /** Throws CliError with places; what is served stays then. */
  functions(): Deployable[];
}

export interface DevOptions {
  project: Project;
  host: string;
  port: number;
  driver: 'docker' | 'process';
  /** Port for a debugger; null: none. */
  inspect: number | null;
  /** File of NAME=VALUE lines; null: none. */
  secretsFile: string | null;
}

export class DevSession {
  readonly #ctx: Context;
  readonly #options: DevOptions;
  readonly #paint: ReturnType<typeof painter>;
  readonly #home = mkdtempSync(join(tmpdir(), 'fn-dev-'));
  readonly #supervisor: Supervisor;
  readonly #client: ApiClient;
  readonly #debugger: DebuggerPort | null;
  readonly #followed = new Map<string, AbortController>();
  /** Names and values as they were set last. */
  readonly #secrets = new Map<string, string>();
  /** What was told of a function that could not be served; of the project as a whole under the empty name. */
  readonly #mistakes = new Map<string, string>();
  #reloading: Promise<void> | null = null;
  #again = false;
  #width = 0;

  constructor(ctx: Context, options: DevOptions) {
    this.#options = options;
    this.#ctx = { ...ctx, home: this.#home, env: { ...ctx.env, FN_HOME: this.#home, FN_URL: undefined, FN_TOKEN: undefined } };
    this.#paint = painter(ctx.stderr, ctx.env);
    this.#debugger = options.inspect === null ? null : new DebuggerPort();
    this.#client = connect(this.#ctx);
    const { host, port, driver } = options;
    // A port each: instances come and go, and two cannot have the same.
    const flags = this.#debugger ? { FN_NODE_FLAGS: '--inspect=127.0.0.1:0' } : {};
    this.#supervisor = new Supervisor(
      { home: this.#home, host, port, driver, pool: 2, command: 'fn dev' },
      { env: { ...this.#ctx.env, ...flags }, report: () => undefined, logLevel: 'error' },
    );
  }

  /** Serves until it is aborted. Throws CliError where it cannot begin; whatever happens, nothing is left behind. */
  async run(): Promise<void> {
    const { project, inspect } = this.#options;
    const { signal } = this.#ctx;
    let watcher: { close(): Promise<void> } | null = null;
    try {
      // Before anything is started: what is wrong with the project at the beginning is told at once.
      project.functions();
      if (this.#debugger) await this.#debugger.listen(inspect!);
      const { url } = await this.#supervisor.start();
      signal.throwIfAborted();
      this.#say(`${this.#paint('bold', `fn dev serves ${project.label} at ${url}`)}; Ctrl-C ends it`);
      if (inspect !== null)
        this.#say(`debugger: attach to 127.0.0.1:${inspect} (VS Code: "Attach to Node Process"; Chrome: chrome://inspect)`);
      // Before the first look: what is corrected while that is told would not be noticed.
      watcher = await watchProject(project.watched, (changed) => void this.#reload(changed));
      await this.#reload([]);
      await new Promise<void>((done) => {
        if (signal.aborted) done();
        else signal.addEventListener('abort', () => done(), { once: true });
      });
    } finally {
      await watcher?.close();
      for (const follower of this.#followed.values()) follower.abort();
      await this.#reloading;
      await this.#debugger?.close();
      await this.#supervisor.stop();
      rmSync(this.#home, { recursive: true, force: true });
    }
  }

  #say(line: string): void {
    say(this.#ctx, line);
  }

  /** One at a time; changes that come meanwhile make it run once more. */
  #reload(changed: string[]): Promise<void> {
    if (this.#reloading) {
      this.#again = true;
      return this.#reloading;
    }
    const run = async (files: string[]): Promise<void> => {
      this.#again = false;
      try {
        await this.#apply(files);
        this.#mistakes.delete('');
      } catch (error) {
        if (!this.#ctx.signal.aborted) this.#tell(toCliError(error));
      }
      if (this.#again && !this.#ctx.signal.aborted) await run([]);
    };
    this.#reloading = run(changed).finally(() => {
      this.#reloading = null;
    });
    return this.#reloading;
  }

  async #apply(changed: string[]): Promise<void> {
    const functions = nearestFirst(this.#inspected(this.#options.project.functions()), changed);
    this.#width = Math.max(...functions.map(({ name }) => name.length));
    await this.#setSecrets(functions);
    const views = await deployedViews(
      this.#client,
      functions.map(({ namespace }) => namespace),
    );
    const { signal, cwd } = this.#ctx;
    const surroundings = {
      client: this.#client,
      cwd,
      signal,
      say: () => undefined,
      paint: this.#paint,
      debug: this.#debugger !== null,
      env: this.#ctx.env,
    };
    const outcomes = await deployAll(
      functions,
      views,
      { force: false, traffic: true, message: undefined },
      () => surroundings,
      (outcome, error) => this.#told(outcome, error),
    );
    const kept = new Set(functions.map(({ namespace, name }) => `${namespace}/${name}`));
    for (const [key, { namespace, name }] of views) if (!kept.has(key)) await this.#remove(namespace, name);
    for (const { namespace, name, result } of outcomes) if (result !== 'failed' && result !== 'abandoned') this.#follow(namespace, name);
  }

  /** A breakpoint must not end the instance that stands at it, and there must be one only. */
  #inspected(functions: Deployable[]): Deployable[] {
    if (!this.#debugger) return functions;
    const relaxed = { timeoutSeconds: INSPECTED_TIMEOUT_SECONDS, keepAliveSeconds: INSPECTED_KEEP_ALIVE_SECONDS, max: 1 };
    return functions.map((one) => ({ ...one, settings: { ...one.settings, ...relaxed, min: Math.min(1, one.settings.min ?? 0) } }));
  }

  #told({ name, result, url, ms }: Outcome, error: CliError | null): void {
    if (error) {
      this.#tell(error, name);
      return;
    }
    this.#mistakes.delete(name);
    if (result !== 'unchanged' && result !== 'abandoned')
      this.#say(
        `${this.#label(name)}  ${this.#paint('green', result === 'created' ? 'ready' : 'reloaded')} in ${formatMs(ms)}  ${this.#paint('underline', url ?? '')}`,
      );
  }

  /** Once for as long as it stays the same: a file that is saved again is no news. */
  #tell(error: CliError, name = ''): void {
    const text = renderError(error, this.#paint).trimEnd();
    if (this.#mistakes.get(name) === text) return;
    this.#mistakes.set(name, text);
    this.#say(name === '' ? text : `${this.#label(name)}  ${text}`);
    this.#say(this.#paint('dim', 'what was served before still is; waiting for a change'));
  }

  #label(name: string): string {
    return this.#paint('bold', name.padEnd(this.#width));
  }

  async #remove(namespace: string, name: string): Promise<void> {
    this.#followed.get(`${namespace}/${name}`)?.abort();
    this.#followed.delete(`${namespace}/${name}`);
    await this.#client.delete(namespace, name);
    this.#say(`${this.#label(name)}  removed`);
  }

  /** From the file; those that functions name and the file has not are told by name, before a deployment is refused for it. */
  async #setSecrets(functions: readonly Deployable[]): Promise<void> {
    const { secretsFile } = this.#options;
    const values = secretsFile === null ? {} : readSecrets(secretsFile);
    for (const { namespace, name, settings } of functions) {
      for (const secret of settings.secrets ?? []) {
        const value = values[secret];
        if (value === undefined)
          throw usageError(
            `${name} needs the secret ${secret}`,
            `Add a line to ${secretsFile ?? '.secrets'}: ${secret}=VALUE (a file that is not committed).`,
          );
        if (this.#secrets.get(`${namespace}/${secret}`) === value) continue;
        await this.#client.setSecret(namespace, secret, value);
        this.#secrets.set(`${namespace}/${secret}`, value);
      }
    }
  }

  /** Its log lines go to the terminal, from now on. */
  #follow(namespace: string, name: string): void {
    const key = `${namespace}/${name}`;
    if (this.#followed.has(key)) return;
    const abort = new AbortController();
    this.#followed.set(key, abort);
    const signal = AbortSignal.any([abort.signal, this.#ctx.signal]);
    const follow = async (): Promise<void> => {
      for await (const entry of readLogs(this.#client, namespace, name, { follow: true }, signal)) this.#line(name, entry);
    };
    follow().catch((error: unknown) => {
      this.#followed.delete(key);
      if (!signal.aborted) this.#say(`${this.#label(name)}  its log cannot be read: ${toCliError(error).message}`);
    });
  }

  #line(name: string, entry: LogEntry): void {
    const inspector = this.#debugger && entry.stream !== 'sys' ? inspectorLine(entry.msg) : null;
    if (typeof inspector === 'number') this.#debugger!.lead(inspector);
    if (inspector === null) this.#ctx.stdout.write(renderLine(this.#label(name), entry, painter(this.#ctx.stdout, this.#ctx.env)));
  }
}

/** Functions whose folder a change is in come first: the others are looked at after them. */
function nearestFirst(functions: readonly Deployable[], changed: readonly string[]): Deployable[] {
  const isNear = ({ path, folder }: Deployable): boolean => {
    const own = path === null ? folder : existsSync(path) && !path.includes('.') ? path : dirname(path);
    return changed.some((file) => file.startsWith(`${own}/`));
  };
  return [...functions].sort((a, b) => Number(isNear(b)) - Number(isNear(a)));
}

/** Throws usageError where it cannot be read. */
function readSecrets(file: string): Record<string, string> {
  let text: string;
  try {
    text = readFileSync(resolve(file), 'utf8');
  } catch (error) {
    throw usageError(`the secrets in ${file} cannot be read: ${error instanceof Error ? error.message : String(error)}`);
  }
  return readAssignments(text, file);
}
