/** How each runtime is started as a process: by which command, with which files within its reach. */
import { execFile } from 'node:child_process';
import { closeSync, openSync, realpathSync, statSync } from 'node:fs';
import { chmod, cp, mkdir, readdir, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { heapLimitMib } from '#contract/function.ts';
import { bootFlags } from '../boot.ts';
import { DriverUnavailable } from '../types.ts';

/** What an interpreter is given to say its version, ms. */
const VERSION_TIMEOUT_MS = 5_000;

/** Where a process finds the program that it is, when it has no path to it. */
const PROGRAM_FD = 3;

/** A runtime that is started as a process. A text is the shim of a runtime that this Node runs. */
export interface ProcessRuntime {
  /** File of the shim; instances can read its folder. */
  shim: string;
  /** Program, an absolute path, or `{shim}` where the shim is a program itself. Without: this Node, held by --permission. */
  command?: string;
  /**
   * Its arguments; `{heapMib}` becomes the heap limit of the class, `{shim}` the shim's path, which else comes last;
   * `{readable}` and `{writable}` the folders that the instance needs, joined by commas.
   */
  args?: string[];
  /** Without: what `command --version` says. */
  version?: string;
}

export interface Start {
  command: string;
  args: string[];
  argv0: string;
  /** Open files beside stdin, stdout and stderr. */
  extra: number[];
}

interface Prepared {
  name: string;
  /** As the process sees it: a copy where it could not see the file itself. */
  shim: string;
  source: string;
  command: string | null;
  args: readonly string[];
  version: string | undefined;
  /** Open file of the program, where its path cannot be passed through. */
  fd: number | null;
}

const runFile = promisify(execFile);

export interface ProcessRuntimesOptions {
  runtimes: Readonly<Record<string, string | ProcessRuntime>>;
  /** The Node to run, a real path. */
  nodePath: string;
  /** Added to the flags of instances that this Node runs, such as `--inspect=127.0.0.1:9229`. */
  nodeFlags: readonly string[];
  /** uid that instances run under; null: ours. */
  uid: number | null;
  /** Where copies go that other users can read. */
  lentDir: string;
}

export class ProcessRuntimes {
  readonly #options: ProcessRuntimesOptions;
  readonly #prepared: Map<string, Prepared>;
  /** The installation is where only root can pass, and processes run under a uid of their own. */
  readonly #lends: boolean;
  readonly #versions = new Map<string, Promise<string | null>>();
  #nodeFd: number | null = null;

  constructor(options: ProcessRuntimesOptions) {
    this.#options = options;
    this.#prepared = new Map(Object.entries(options.runtimes).map(([name, runtime]) => [name, prepare(name, runtime)]));
    this.#lends = options.uid !== null && ![options.nodePath, ...[...this.#prepared.values()].flatMap(filesOf)].every(readableByAll);
  }

  /** Those whose program is there, with its version. */
  async list(): Promise<{ name: string; version: string }[]> {
    const found = await Promise.all(
      [...this.#prepared.values()].map(async (runtime) => {
        let version = this.#versions.get(runtime.name);
        if (version === undefined) this.#versions.set(runtime.name, (version = versionOf(runtime)));
        const known = await version;
        return known === null ? null : { name: runtime.name, version: known };
      }),
    );
    return found.filter((runtime) => runtime !== null);
  }

  /** Names of those that nothing holds, not even --permission or what another runtime has like it. */
  get unheld(): string[] {
    const held = ({ command, args }: Prepared) => command === null || args.some((arg) => arg.includes('{readable}'));
    return [...this.#prepared.values()].filter((runtime) => !held(runtime)).map((runtime) => runtime.name);
  }

  /**
   * Functions never run as root. Where the installation is, say, under /root, they get a copy of the
   * shims (some 100 kB each) in the run folder, and the program as an open file, whose path nobody has to pass.
   */
  async lend(): Promise<void> {
    if (!this.#lends) return;
    const { nodePath, lentDir } = this.#options;
    if (process.platform !== 'linux')
      throw new DriverUnavailable(
        `Functions do not run as root, and other users cannot read ${nodePath}: move the installation to where they can.`,
      );
    for (const runtime of this.#prepared.values()) {
      const folder = join(lentDir, runtime.name);
      await rm(folder, { recursive: true, force: true });
      await mkdir(folder, { recursive: true });
      await cp(dirname(runtime.source), folder, { recursive: true });
      for (const path of [lentDir, folder]) await chmod(path, 0o755);
      for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
        const path = join(entry.parentPath, entry.name);
        await chmod(path, entry.isDirectory() || (statSync(path).mode & 0o100) !== 0 ? 0o755 : 0o644);
      }
      runtime.shim = join(folder, basename(runtime.source));
      if (runtime.command !== null && runtime.command !== '{shim}' && !readableByAll(runtime.command))
        runtime.fd ??= openSync(runtime.command, 'r');
    }
    this.#nodeFd ??= openSync(nodePath, 'r');
  }

  /** What lend() opened. Idempotent. */
  close(): void {
    const open = [this.#nodeFd, ...[...this.#prepared.values()].map((runtime) => runtime.fd)];
    for (const fd of open) if (fd !== null) closeSync(fd);
    this.#nodeFd = null;
    for (const runtime of this.#prepared.values()) runtime.fd = null;
  }

  async removeLent(): Promise<void> {
    if (this.#lends) await rm(this.#options.lentDir, { recursive: true, force: true });
  }

  /** How an instance is started. `readable` and `writable`: folders of its own, beside the shim's. Throws DriverUnavailable. */
  start(name: string, memoryClassMib: number, readable: readonly string[], writable: readonly string[]): Start {
    const runtime = this.#prepared.get(name);
    if (runtime === undefined) throw new DriverUnavailable(`The process driver has no shim for the runtime ${name}.`);
    const { shim, command, fd } = runtime;
    if (command === null) {
      const { nodePath, nodeFlags } = this.#options;
      const args = [
        ...permission([dirname(shim), ...readable], writable),
        ...(nodeFlags.some((flag) => flag.startsWith('--inspect')) ? ['--allow-inspector'] : []),
        ...nodeFlags,
        ...bootFlags('node', memoryClassMib),
        shim,
      ];
      return { ...program(nodePath, this.#nodeFd, 'node'), args };
    }
    const heapMib = String(heapLimitMib(memoryClassMib));
    const named = command === '{shim}' || runtime.args.some((arg) => arg.includes('{shim}'));
    const args = [...runtime.args, ...(named ? [] : ['{shim}'])].map((arg) =>
      arg
        .replaceAll('{heapMib}', heapMib)
        .replaceAll('{shim}', shim)
        // A shim may have parts of another's beside it.
        .replaceAll('{readable}', [dirname(dirname(shim)), ...readable].join(','))
        .replaceAll('{writable}', writable.join(',')),
    );
    return { ...program(command === '{shim}' ? shim : command, fd, command === '{shim}' ? name : basename(command)), args };
  }
}

const program = (path: string, fd: number | null, argv0: string): Omit<Start, 'args'> =>
  fd === null ? { command: path, argv0, extra: [] } : { command: `/proc/self/fd/${PROGRAM_FD}`, argv0, extra: [fd] };

const permission = (readable: readonly string[], writable: readonly string[]): string[] => [
  '--permission',
  ...readable.map((path) => `--allow-fs-read=${path}`),
  ...writable.map((path) => `--allow-fs-write=${path}`),
];

function prepare(name: string, given: string | ProcessRuntime): Prepared {
  const runtime: ProcessRuntime = typeof given === 'string' ? { shim: given } : given;
  // --permission compares real paths.
  const source = realpathSync(runtime.shim);
  return { name, shim: source, source, command: runtime.command ?? null, args: runtime.args ?? [], version: runtime.version, fd: null };
}

const filesOf = ({ source, command }: Prepared): string[] => (command === null || command === '{shim}' ? [source] : [source, command]);

/** Null where the program does not run. */
async function versionOf({ command, version, source }: Prepared): Promise<string | null> {
  if (version !== undefined) return version;
  if (command === null) return process.versions.node;
  try {
    const { stdout, stderr } = await runFile(command === '{shim}' ? source : command, ['--version'], { timeout: VERSION_TIMEOUT_MS });
    return /\d+(?:\.\d+)+\S*/.exec(stdout + stderr)?.[0] ?? null;
  } catch {
    return null; // not there, or not a program of this machine: it is not listed
  }
}

/** Whether any user can read a file: all folders above it may be passed through. */
function readableByAll(path: string): boolean {
  if ((statSync(path).mode & 0o004) === 0) return false;
  for (let dir = dirname(path); dir !== dirname(dir); dir = dirname(dir)) if ((statSync(dir).mode & 0o001) === 0) return false;
  return true;
}
