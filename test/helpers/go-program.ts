/** Builds a Go program with the compiler that the shim of `binary` is built with, in fn's cache; once per source. */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { execa } from 'execa';
import { TEST_CACHE } from './cache.ts';
import { debianPackage } from './debian-package.ts';

const PACKAGES = ['golang-1.19-go', 'golang-1.19-src'] as const;

/** Path of the executable. */
export async function goProgram(source: string): Promise<string> {
  const output = join(TEST_CACHE, `go-${createHash('sha256').update(readFileSync(source)).digest('hex').slice(0, 16)}`);
  if (existsSync(output)) return output;
  // Both packages belong into one tree: the compiler finds its library by links into the other one.
  const root = await debianPackage(...PACKAGES);
  const goRoot = join(root, 'usr/lib/go-1.19');
  const work = `${output}.${process.pid}`;
  mkdirSync(work, { recursive: true });
  const env = {
    HOME: work,
    GOROOT: goRoot,
    GOPATH: join(work, 'path'),
    GOCACHE: join(work, 'cache'),
    GO111MODULE: 'off',
    CGO_ENABLED: '0',
  };
  await execa(join(goRoot, 'bin/go'), ['build', '-trimpath', '-ldflags=-s -w', '-o', join(work, 'program'), source], { env, cwd: work });
  renameSync(join(work, 'program'), output);
  await execa('chmod', ['-R', 'u+w', work]);
  rmSync(work, { recursive: true });
  return output;
}
