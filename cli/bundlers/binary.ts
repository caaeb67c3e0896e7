/** The bundler of the runtime `binary`: an executable for Linux that listens on $PORT, and the files that go with it. */
import { readFileSync } from 'node:fs';
import { basename, relative } from 'node:path';
import { BUNDLE_LIMITS } from '#contract/api.ts';
import { EXECUTABLE_MODE } from '../archive.ts';
import { CliError } from '../errors.ts';
import { readAssets } from './assets.ts';
import { readElf, type Elf } from './elf.ts';
import { checkSize, pack } from './javascript.ts';
import type { Bundle, BundleRequest } from './types.ts';

/** Libraries that the runtime's image has (runtime-images/builder/definition.ts: libc6, libgcc-s1, libstdc++6, libatomic1). */
const LIBRARIES =
  /^(?:ld-linux[^/]*|libc|libm|libdl|libpthread|librt|libresolv|libutil|libnsl|libnss_[a-z]+|libanl|libmvec|libgcc_s|libstdc\+\+|libatomic)\.so/;
const LOADER = /^\/lib(?:64)?\/ld-linux-[^/]+\.so\.\d+$/;
/** What may stand in the path of an entry. */
const PLAIN = /^[A-Za-z0-9_][A-Za-z0-9_.@-]*$/;

export async function bundleBinary({ source, cwd, assets }: BundleRequest): Promise<Bundle> {
  const shown = relative(cwd, source.entry);
  const path = shown.startsWith('..') || shown === '' ? source.entry : shown;
  const contents = readFileSync(source.entry);
  checkSize('unpacked', contents.length, BUNDLE_LIMITS.maxUnpackedBytes);
  const elf = readElf(contents);
  if (elf === null || !elf.runnable) throw notForLinux(path, contents);
  if (elf.arch !== process.arch)
    throw new CliError(`${path} is a program for ${elf.arch ?? 'another CPU'}; the platform runs ${process.arch}`, {
      hint: crossCompile(),
    });
  const given = basename(source.entry);
  const name = PLAIN.test(given) ? given : 'program';
  const packed = await pack([{ name, contents, mode: EXECUTABLE_MODE }], readAssets(source.folder, assets));
  return { ...packed, entry: name, codeBytes: contents.length, warnings: missing(elf, path) };
}

function notForLinux(path: string, contents: Buffer): CliError {
  if (contents.subarray(0, 2).toString() === '#!')
    return new CliError(`${path} is a script: the runtime's image has no shell and no interpreter`, {
      hint: 'Use a runtime of its language, or an image that has what it needs: fn deploy --image REF.',
    });
  return new CliError(`${path} is not an executable for Linux (a 64-bit ELF file)`, { hint: crossCompile() });
}

const crossCompile = (): string =>
  `Build it for Linux, statically: Go: CGO_ENABLED=0 GOOS=linux GOARCH=${process.arch === 'x64' ? 'amd64' : 'arm64'} go build; Rust: cargo build --release --target ${process.arch === 'x64' ? 'x86_64' : 'aarch64'}-unknown-linux-musl`;

/** What it needs that the runtime's image does not have, a warning each. */
function missing({ interpreter, needed }: Elf, path: string): string[] {
  const warnings: string[] = [];
  const how = 'link it statically, or deploy an image that has it';
  if (interpreter !== null && !LOADER.test(interpreter))
    warnings.push(`${path} is run by ${interpreter}, which is not in the runtime's image: ${how}`);
  const libraries = needed.filter((name) => !LIBRARIES.test(name));
  if (libraries.length > 0) warnings.push(`${path} needs ${libraries.join(', ')}, which the runtime's image does not have: ${how}`);
  return warnings;
}
