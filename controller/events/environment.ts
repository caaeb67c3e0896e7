/** What of the controller's environment the dispatcher gets: its settings, and what Node, OpenTelemetry and the libc read. */
const KEPT = new Set([
  'PATH',
  'HOME',
  'TZ',
  'LANG',
  'LC_ALL',
  'NODE_EXTRA_CA_CERTS',
  'SSL_CERT_FILE',
  'SSL_CERT_DIR',
  'NODE_OPTIONS',
  'MALLOC_ARENA_MAX',
]);

/** Credentials that lie about in who started fn (a cloud's, a registry's) are not for a process that talks to brokers. */
export function dispatcherEnv(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(env).filter(([name]) => KEPT.has(name) || name.startsWith('FN_') || name.startsWith('OTEL_')));
}
