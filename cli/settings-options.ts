/** The options of commands that deploy: data only, so that the help costs no schema. settings.ts reads them. */
import type { OptionSpec } from './command.ts';

export const RUNTIME_NAMES = ['node', 'python', 'bun', 'deno', 'binary', 'image'] as const;

export const ENV_OPTION: OptionSpec = {
  flags: '-e, --env <name=value>',
  description: 'environment variable; without =, an environment of fn.yaml',
  repeatable: true,
};

/** The options that say it. */
export const SETTINGS_OPTIONS: readonly OptionSpec[] = [
  {
    flags: '--runtime <name>',
    description: `runtime: ${RUNTIME_NAMES.join(', ')} (default: by the source, else node)`,
    completes: 'runtime',
  },
  { flags: '--memory <size>', description: 'memory of an instance: MiB, 256Mi, 1Gi (default: 128)' },
  { flags: '--cpu <cores>', description: 'CPU of an instance: cores, or 500m (default: 1)' },
  { flags: '--timeout <time>', description: 'longest time of a request: seconds, 30s, 5m (default: 30)' },
  { flags: '--concurrency <n>', description: 'requests at a time per instance (default: 1 for the Lambda form, else 50)' },
  { flags: '--min <n>', description: 'instances that are always ready (default: 0)' },
  { flags: '--max <n>', description: 'most instances at a time (default: 100)' },
  { flags: '--keep-alive <time>', description: 'how long an idle instance is kept: a time, or auto (default: auto)' },
  { flags: '--max-stream <time>', description: 'longest life of a WebSocket or event stream (default: 1h)' },
  { flags: '--egress <where>', description: 'none, internet, or a list: api.example.com,10.1.2.0/24' },
  { flags: '--sandbox <name>', description: 'what isolates it beyond the usual: gvisor, or a RuntimeClass of the cluster (default: none)' },
  ENV_OPTION,
  { flags: '--env-file <file>', description: 'file of NAME=VALUE lines; --env wins', completes: 'file' },
  { flags: '--secret <name>', description: 'secret that the function gets as a variable', repeatable: true, completes: 'secret' },
  { flags: '--route <route>', description: "requests that it gets beside /NAME: 'GET api.example.com/users/:id'", repeatable: true },
  { flags: '--auth <who>', description: 'who may call it: public, token, or JSON: {"jwt": {"issuer": …, "audience": …}}' },
  { flags: '--image <ref>', description: 'with runtime image: a reference, a tar, or a folder with a Dockerfile', completes: 'file' },
  { flags: '--asset <glob>', description: 'files that go along with the code', repeatable: true },
];

/** Which manifest, where it is not the one of this folder or above. */
export const MANIFEST_OPTION: OptionSpec = {
  flags: '--file <file>',
  description: 'the manifest (default: fn.yaml here, or above up to the repository’s root)',
  completes: 'file',
};
