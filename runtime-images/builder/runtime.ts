/**
 * What an image is made of. Of runtimes: one definition per folder of runtime-images/, in its runtime.ts; of fn's own
 * programs: platform/images.ts.
 */
import { MOUNT_POINTS } from './definition.ts';
import type { Layer, LayerEntry } from './tar.ts';

/** How an image is started. The drivers replace Cmd where the arguments go by the memory class. */
export interface ImageConfig {
  readonly User: string;
  readonly Env: readonly string[];
  readonly Entrypoint: readonly string[];
  readonly Cmd: readonly string[];
  readonly WorkingDir: string;
  readonly StopSignal: string;
  /** Folders that are written to, where the root file system is read-only. */
  readonly Volumes?: Readonly<Record<string, Readonly<Record<string, never>>>>;
  readonly ExposedPorts?: Readonly<Record<string, Readonly<Record<string, never>>>>;
}

/** A file that is read with the definition: what is digested is what goes into the image. */
export interface ImageFile {
  /** Path in the image, without a leading slash. */
  readonly target: string;
  readonly content: Buffer;
  /** Default 0644. */
  readonly mode?: number;
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

/** Images that functions run in, and those that fn itself runs in. */
export type ImageKind = 'runtime' | 'platform';

export interface RuntimeDefinition {
  readonly kind: ImageKind;
  /** What the image is called: `fn/NAME`. Of a runtime also the name of its folder. */
  readonly name: string;
  /** Folder of its packages.lock, and of its Dockerfile where it has one, below runtime-images. null: its name. */
  readonly folder: string | null;
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
  /** Files from elsewhere, beside those of the shim. Read at every start of fn: must be quick. */
  readonly files: (root: string) => readonly ImageFile[];
  /** Folders and links of the topmost layer. */
  readonly entries: Readonly<Record<string, LayerEntry>>;
  readonly config: ImageConfig;
  /** Beside those that all images have. */
  readonly labels: Readonly<Record<string, string>>;
  /** What the tag begins with, before the digest of the inputs; null: nothing. */
  readonly tagVersion: (root: string) => string | null;
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
  kind: 'runtime',
  folder: null,
  files: () => [],
  // Where the drivers mount the socket's folder and the code.
  entries: Object.fromEntries(MOUNT_POINTS.map((path) => [path, { type: 'directory', mode: 0o755 }])),
  labels: {},
  tagVersion: () => null,
  packages: [],
  kept: [],
  dropped: [],
  allowed: null,
  links: {},
  shimExtensions: [],
  programs: () => [],
} as const satisfies Partial<RuntimeDefinition>;
