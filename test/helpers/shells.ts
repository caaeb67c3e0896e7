/**
 * What real shells offer for a command line with a completion script. bash is the machine's own; zsh and
 * fish are Debian's, unpacked into fn's cache: 8 MB, fetched once, never installed.
 */
import { globSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { execa } from 'execa';
import type { Shell } from '../../cli/completion/script.ts';
import { debianPackage } from './debian-package.ts';
import { ROOT } from './root.ts';

/** A shell that waits for what never comes must not hold the run. */
const SHELL_TIMEOUT_MS = 90_000;

export interface Surroundings {
  /** A file with the completion script. */
  script: string;
  cwd: string;
  env: NodeJS.ProcessEnv;
}

export type Offer = (line: string, surroundings: Surroundings) => Promise<string[]>;

/** Fetches what it needs; the function that it returns tells the values that are offered, sorted. */
export async function shellOffers(shell: Shell): Promise<Offer> {
  if (shell === 'bash') return bash;
  return shell === 'zsh'
    ? zsh(await debianPackage('zsh', 'zsh-common'))
    : fish(await debianPackage('fish', 'fish-common', 'libpcre2-32-0'));
}

const sorted = (lines: readonly string[]): string[] => [...new Set(lines.filter((line) => line !== ''))].toSorted();

const run = (command: string, args: string[], { cwd, env }: Surroundings) =>
  execa(command, args, { cwd, env, extendEnv: false, timeout: SHELL_TIMEOUT_MS, stdin: 'ignore' });

/** As readline calls it: the line cut into words, at = and : as well. */
async function bash(line: string, surroundings: Surroundings): Promise<string[]> {
  const words: string[] = line.match(/[=:]+|[^\s=:]+/g) ?? [];
  if (/\s$/.test(line)) words.push('');
  const program = `source "$1"; shift; COMP_LINE=$1; COMP_POINT=\${#1}; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _fn
    for word in "\${COMPREPLY[@]}"; do printf '%s\\n' "$word"; done`;
  const { stdout, stderr } = await run('bash', ['--norc', '-c', program, 'bash', surroundings.script, line, ...words], surroundings);
  if (stderr !== '') throw new Error(stderr);
  return sorted(stdout.split('\n'));
}

function fish(root: string): Offer {
  return async (line, surroundings) => {
    const [library] = globSync(join(root, 'usr/lib/*/libpcre2-32.so.0'));
    const env = { ...surroundings.env, LD_LIBRARY_PATH: join(library ?? '', '..'), XDG_DATA_DIRS: join(root, 'usr/share') };
    const program = 'source $argv[1]; complete -C $argv[2]';
    const args = ['--no-config', '-c', program, '--', surroundings.script, line];
    const { stdout, stderr } = await run(join(root, 'usr/bin/fish'), args, { ...surroundings, env });
    if (stderr !== '') throw new Error(stderr);
    return sorted(stdout.split('\n').map((one) => one.split('\t')[0]!));
  };
}

/** It completes on terminals only: one zsh drives another by a pseudo-terminal. */
function zsh(root: string): Offer {
  return async (line, surroundings) => {
    const program = join(root, 'bin/zsh');
    const [modules] = globSync(join(root, 'usr/lib/*/zsh/*'));
    const functions = globSync(join(root, 'usr/share/zsh/functions/**/')).filter((path) => !path.endsWith('.zwc'));
    const start = join(surroundings.cwd, '.capture.zsh');
    const list = (paths: readonly string[]) => paths.map((path) => `'${path}'`).join(' ');
    const capture = join(ROOT, 'test/helpers/zsh/capture.zsh');
    writeFileSync(start, `module_path=(${list([modules ?? ''])})\nfpath=(${list(functions)})\nsource ${capture} "$@"\n`);
    const env = { ...surroundings.env, ZSH_BIN: program };
    const { stdout } = await run(program, ['-f', start, line, surroundings.script], { ...surroundings, env });
    return sorted(stdout.split(/\r?\n/).map((one) => one.split('\t')[0]!));
  };
}
