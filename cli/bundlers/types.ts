/** How the sources of a function become a bundle: one bundler for each runtime. */
import type { ApiClient } from '../client.ts';
import type { Archive } from '../archive.ts';
import type { Source } from '../source.ts';

export interface BundleRequest {
  /** Name of the runtime, e.g. `node`. */
  runtime: string;
  source: Source;
  /** With the runtime `image`: which one, as it was written (a reference, a tar, a folder with a Dockerfile); paths are absolute or relative to the source's folder. */
  image?: string | undefined;
  /** What messages name files relative to. */
  cwd: string;
  /** Files that go along, beside what the code imports: globs relative to the source's folder. */
  assets: readonly string[];
  /** Talk, a line each: what takes longer than a second is told. */
  say: (line: string) => void;
  signal: AbortSignal;
  /** For what the platform has to be asked or given while bundling (images). */
  client: ApiClient;
  namespace: string;
  /** For a debugger: source maps name files by their absolute path, so the bytes depend on where the folder lies. */
  debug?: boolean;
}

export interface Bundle extends Archive {
  /** File to load. */
  entry: string;
  /** Bytes of code, without source maps. */
  codeBytes: number;
  /** What may not work, a message each, with its place. */
  warnings: string[];
  /** With the runtime `image`: the image's id, which the platform has by now. */
  image?: string;
}

/** Throws CliError with the place of what is wrong. The same sources give the same bytes. */
export type Bundler = (request: BundleRequest) => Promise<Bundle>;
