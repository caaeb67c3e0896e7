/**
 * What the runtime images are made of. Everything here is an input: a change gives another tag, and
 * the image is built anew.
 */

/** Raise it when the builder itself, or a runtime's `complete`, comes to write something else from the same inputs. */
export const BUILDER_FORMAT = 3;

/** Debian packages of the base, and no dependency beyond them: nothing in the image runs a script. */
export const BASE_PACKAGES = [
  'base-files',
  'ca-certificates',
  'libatomic1',
  'libc6',
  'libgcc-s1',
  'libstdc++6',
  'netbase',
  'tzdata',
] as const;

/** uid and gid of everything that runs in an image; an instance is started with it too. */
export const INSTANCE_UID = 65_532;

/** Files that the packages leave to their installation scripts, which never run here. */
export const ADDED_FILES: Record<string, string> = {
  'etc/passwd': [
    'root:x:0:0:root:/root:/usr/sbin/nologin',
    `fn:x:${INSTANCE_UID}:${INSTANCE_UID}:fn:/tmp:/usr/sbin/nologin`,
    'nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin',
    '',
  ].join('\n'),
  'etc/group': ['root:x:0:', `fn:x:${INSTANCE_UID}:`, 'nogroup:x:65534:', ''].join('\n'),
  'etc/nsswitch.conf': [
    'passwd: files',
    'group: files',
    'hosts: files dns',
    'networks: files',
    'protocols: files',
    'services: files',
    '',
  ].join('\n'),
};

/** Folders that must be there, with their mode: mount points, and /tmp, whose mode a tmpfs inherits. */
export const ADDED_FOLDERS: Record<string, number> = {
  dev: 0o755,
  etc: 0o755,
  proc: 0o755,
  root: 0o700,
  run: 0o755,
  sys: 0o755,
  tmp: 0o1777,
  'usr/local/bin': 0o755,
  'var/tmp': 0o1777,
};

/** Folders of an image of ours, where the drivers mount the socket's folder and the code. */
export const MOUNT_POINTS = ['fn/code', 'fn/sock'] as const;

/** The certificates of ca-certificates, in the order of their names, become this one bundle. */
export const CERTIFICATES = 'usr/share/ca-certificates/mozilla/';
export const CERTIFICATE_BUNDLE = 'etc/ssl/certs/ca-certificates.crt';

const KEPT = [
  /^lib(?:64)?(?:\/|$)/,
  /^usr\/lib\/[a-z0-9_]+-linux-gnu(?:[a-z0-9]*)\//,
  /^usr\/lib64(?:\/|$)/,
  /^usr\/lib\/os-release$/,
  /^etc\/(?:debian_version|ethertypes|host\.conf|os-release|protocols|rpc|services)$/,
  /^etc\/ld\.so\.conf\.d\//,
  /^usr\/share\/zoneinfo\//,
  /^usr\/share\/common-licenses\//,
  /^usr\/share\/doc\/[^/]+\/copyright$/,
];

const DROPPED = [
  // Character set converters, profilers and the loader's auditors: nothing in an image loads them.
  /\/(?:gconv|audit)\//,
  /\/lib(?:memusage|pcprofile|c_malloc_debug|thread_db|BrokenLocale)\.so/,
  // The same zones twice more: counted with leap seconds, and without.
  /^usr\/share\/zoneinfo\/(?:right|posix)(?:\/|$)/,
  /^lib\/systemd(?:\/|$)/,
  /^lib\/init(?:\/|$)/,
];

/** What is kept of packages beside what the base keeps, and what is left out all the same. */
export interface Selection {
  readonly kept: readonly RegExp[];
  readonly dropped: readonly RegExp[];
}

const NOTHING_MORE: Selection = { kept: [], dropped: [] };

/** Whether a file or link of a package goes into an image. Folders follow from what is in them. */
export function isKept(path: string, more: Selection = NOTHING_MORE): boolean {
  const has = (patterns: readonly RegExp[]) => patterns.some((pattern) => pattern.test(path));
  return (has(KEPT) || has(more.kept)) && !has(DROPPED) && !has(more.dropped);
}

/** Names that must not be in an image: each is a way to run something that was not deployed. */
export const FORBIDDEN_NAMES = /(?:^|\/)(?:sh|bash|dash|busybox|perl|python[0-9.]*|apt(?:-get)?|dpkg(?:-deb)?|openssl|mawk|awk)$/;

/** The definition as text, for the digest of the inputs. */
export function definitionText(): string {
  return JSON.stringify({
    BUILDER_FORMAT,
    BASE_PACKAGES,
    ADDED_FILES,
    ADDED_FOLDERS,
    MOUNT_POINTS,
    CERTIFICATES,
    CERTIFICATE_BUNDLE,
    kept: KEPT.map(String),
    dropped: DROPPED.map(String),
  });
}
