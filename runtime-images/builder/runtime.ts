/** What a runtime's image is made of: one definition per folder of runtime-images/, in its runtime.ts. */
import type { Layer } from './tar.ts';

/** How an image is started. The drivers replace Cmd where the arguments go by the memory class. */
export interface ImageConfig {
  readonly User: string;
  readonly Env: readonly string[];
  readonly Entrypoint: readonly string[];
  readonly Cmd: readonly string[];
  readonly WorkingDir: string;
  readonly StopSignal: string;
}

/** Where a program's bytes come from while an image is built. */
export interface FetchContext {
  /** Folder runtime-images. */
  root: string;
  /** Kept between builds: what was downloaded, by name and version. Exists. */
  cacheDir: string;
  /** For this build alone. Exists, and is removed after it. */
  work: string;
  say: (line: string) => void;
}

/** A file of an image that is too large, or too slow to make, to be read at every start of fn. */
export interface Program {
  /** Path in the image, without a leading slash. */
  readonly target: string;
  /** Changes whenever the bytes do: name, version and integrity, or a digest of what it is built of. */
  readonly identity: string;
  /** Downloads or builds it where needed; the path of the file on this machine. */
  readonly fetch: (context: FetchContext) => Promise<string>;
}

export interface RuntimeDefinition {
  /** The folder's name. */
  readonly name: string;
  /** For people, in one line: what `fn runtimes build` says while it builds. */
  readonly title: string;
  /** Debian packages above those of the base, and no dependency beyond them. Their versions are in packages.lock of the folder. */
  readonly packages: readonly string[];
  /** Paths of these packages that go into the image beside what the base keeps, and what is left out all the same. */
  readonly kept: readonly RegExp[];
  readonly dropped: readonly RegExp[];
  /** Of the names that no image may hold, the one that is this runtime's purpose. */
  readonly allowed: RegExp | null;
  readonly links: Readonly<Record<string, string>>;
  /** Files and folders of the runtime's folder, or beside it (`../node/shim`), that go below /fn. In folders: files with these extensions. */
  readonly shim: readonly string[];
  readonly shimExtensions: readonly string[];
  readonly config: ImageConfig;
  /** Read at every start of fn: must be quick. Throws where a part of the installation is missing. */
  readonly programs: (root: string) => readonly Program[];
  /** The label fn.version: of the language where it is known before packages are fetched, else of the package named here. */
  readonly version: (root: string) => string | { readonly package: string };
  /**
   * Adds to a layer what installation scripts would have made (compiled Python, say). `below` are the
   * tar files of the layers under it. The same input must give the same bytes.
   */
  readonly complete?: (layer: Layer, below: readonly string[], work: string) => Promise<void>;
}

/** What most runtimes have in common; a definition says what is its own. */
export const COMMON = {
  packages: [],
  kept: [],
  dropped: [],
  allowed: null,
  links: {},
  shimExtensions: [],
  programs: () => [],
} as const satisfies Partial<RuntimeDefinition>;
