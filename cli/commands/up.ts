import { statSync } from 'node:fs';
import { resolve } from 'node:path';
import { chooseStoreUrl, parseStoreUrl, type StoreAddress, storeUrlToShow } from '#kit/store-url.ts';
import type { CommandSpec, Input } from '../command.ts';
import { HOME_OPTION, JSON_OPTION, integerBetween } from '../command.ts';
import type { Context } from '../context.ts';
import { homeFlag, print, printJson, say } from '../context.ts';
import type { ExitCode } from '../errors.ts';
import { EXIT, usageError } from '../errors.ts';
import type { SupervisorState } from '../state.ts';
import { type SupervisorOptions, type TlsOptions, startedWith } from '../supervisor/options.ts';
import { runtimeNames } from './runtimes-build.ts';

export const DEFAULT_PORT = 8_080;

/** Each is a process with an event loop of its own: more than there are cores gain nothing. */
const MAX_GATEWAYS = 32;
/** One that leads, and two so that one may be away. */
const MAX_CONTROLLERS = 3;

/** Ctrl-C in the foreground ends every instance; the supervisor's own deadlines are below it. */
const FOREGROUND_PATIENCE_MS = 120_000;

export const up: CommandSpec = {
  name: 'up',
  summary: 'start the platform: gateway, controller, supervisor',
  options: [
    { flags: '-d, --detach', description: 'return when it is up, and leave it running' },
    {
      flags: '--port <port>',
      description: 'port of the gateway; 0: any free one',
      parse: integerBetween(0, 65_535),
      default: DEFAULT_PORT,
    },
    { flags: '--host <ip>', description: 'address to listen on; 0.0.0.0 opens it to the network', default: '127.0.0.1' },
    { flags: '--tls-listen <host:port>', description: 'serve HTTPS there too, with the certificates of --tls-certs', parse: hostAndPort },
    {
      flags: '--tls-certs <dir>',
      description: 'folder with NAME.crt (or .pem) and NAME.key; read again when it changes',
      completes: 'folder',
    },
    HOME_OPTION,
    {
      flags: '--driver <driver>',
      description: 'what runs instances; auto: docker where there is an engine; kubernetes: see docs/kubernetes.md',
      choices: ['auto', 'docker', 'process', 'kubernetes'],
      default: 'auto',
    },
    {
      flags: '--runtimes <names>',
      description: 'runtime images to build first, between commas, if they are not there; node always is',
      parse: runtimeNames,
      completes: 'runtime',
    },
    { flags: '--api <host:port>', description: 'serve the control API over TCP too, with the token in HOME/token', parse: hostAndPort },
    {
      flags: '--metrics <host:port>',
      description: 'serve /metrics for Prometheus: the gateway’s here, the controller’s on the next port',
      parse: hostAndPort,
    },
    {
      flags: '--store <store>',
      description: 'where functions and events are kept: sqlite (in the home), or redis://HOST:PORT; a password belongs in FN_STORE',
      parse: storeUrl,
    },
    {
      flags: '--gateways <n>',
      description: 'gateway processes, all on the same port (default: 1)',
      parse: integerBetween(1, MAX_GATEWAYS),
    },
    {
      flags: '--controllers <n>',
      description: 'controllers; one leads, another takes over when it dies (default: 1)',
      parse: integerBetween(1, MAX_CONTROLLERS),
    },
    { flags: '--pool <n>', description: 'generic instances kept ready', parse: integerBetween(0, 1_000) },
    { flags: '--memory-budget <mib>', description: 'memory of all instances together, MiB', parse: integerBetween(128, 16_777_216, 'MiB') },
    { flags: '--allow-unfiltered-egress', description: 'let functions dial out even where this host cannot filter it' },
    JSON_OPTION,
  ],
  examples: [
    'fn up                     # until Ctrl-C',
    'fn up --detach',
    'fn up --detach --port 9000 --host 0.0.0.0',
    'fn up --tls-listen 0.0.0.0:8443 --tls-certs ./certs',
    'fn up --detach --store redis://127.0.0.1:6379 --gateways 2 --controllers 2',
  ],
  run,
};

async function run(ctx: Context, input: Input): Promise<ExitCode> {
  const { findRunning, startDetached, runForeground } = await import('../supervisor/launch.ts');
  const { tellSteps } = await import('../platform.ts');
  const { homePaths } = await import('#kit/paths.ts');
  const running = await findRunning(homePaths(ctx.home), ctx.signal);
  if (running !== null) {
    say(ctx, `fn is running already (pid ${running.pid}, driver ${running.driver})`);
    tellIgnored(ctx, input, running);
    tellUrl(ctx, input, running);
    return EXIT.ok;
  }
  ctx.patience(FOREGROUND_PATIENCE_MS);
  const options = optionsFrom(ctx, input);
  const steps = tellSteps(ctx);
  if (input.flag('detach')) {
    const state = await startDetached(ctx, options, steps);
    tellUrl(ctx, input, state);
    say(ctx, `fn is up. Deploy: fn deploy FILE${homeFlag(ctx)}    stop: fn down${homeFlag(ctx)}`);
    return EXIT.ok;
  }
  const { interrupted } = await runForeground(ctx, options, (event) => {
    steps(event);
    if (event.type !== 'ready') return;
    tellUrl(ctx, input, event);
    say(ctx, 'fn is up. Ctrl-C stops it.');
  });
  say(ctx, 'fn is down.');
  return interrupted ? EXIT.interrupted : EXIT.ok;
}

/** Options that a platform can only be started with: each that was typed and says something else is named. */
function tellIgnored(ctx: Context, input: Input, running: SupervisorState): void {
  const ignored = ignoredOptions(optionsFrom(ctx, input), input, running);
  if (ignored.length === 0) return;
  const names = ignored.map(([name]) => `--${name}`).join(', ');
  const words = ignored.map(([name, value]) => (value === 'true' ? `--${name}` : `--${name} ${value}`)).join(' ');
  say(ctx, `note: ${names} had no effect: it runs ${describeRunning(ignored, running)}`);
  say(ctx, `  to change that: fn down${homeFlag(ctx)}, then fn up${homeFlag(ctx)} ${words}`);
}

const ONLY_AT_START = [
  'host',
  'api',
  'metrics',
  'store',
  'gateways',
  'controllers',
  'pool',
  'memory-budget',
  'allow-unfiltered-egress',
  'tls-listen',
  'tls-certs',
] as const;

/** By name, with what was typed. */
function ignoredOptions(options: SupervisorOptions, input: Input, running: SupervisorState): (readonly [string, string])[] {
  const typed = (name: string): boolean => input.isTyped(name.replaceAll(/-([a-z])/g, (_, letter: string) => letter.toUpperCase()));
  const wanted = startedWith(options);
  const built = running.started.runtimes?.split(',') ?? [];
  return [
    ...(typed('port') && options.port !== 0 && options.port !== running.port ? [['port', String(options.port)] as const] : []),
    ...(typed('driver') && options.driver !== 'auto' && options.driver !== running.driver ? [['driver', options.driver] as const] : []),
    ...ONLY_AT_START.filter((name) => typed(name) && wanted[name] !== running.started[name]).map(
      (name) => [name, wanted[name] ?? ''] as const,
    ),
    ...(typed('runtimes') && !input.list('runtimes').every((name) => built.includes(name))
      ? [['runtimes', input.list('runtimes').join(',')] as const]
      : []),
  ];
}

/** `on port 8080, without --api`. */
function describeRunning(ignored: readonly (readonly [string, string])[], { port, driver, started }: SupervisorState): string {
  const known: Readonly<Record<string, string>> = { ...started, port: String(port), driver };
  return ignored
    .map(([name]) =>
      known[name] === undefined ? `without --${name}` : known[name] === 'true' ? `with --${name}` : `with --${name} ${known[name]}`,
    )
    .join(', ');
}

interface Told {
  url: string;
  tlsUrl?: string;
  driver: string;
  pid: number;
}

function tellUrl(ctx: Context, input: Input, { url, tlsUrl, driver, pid }: Told): void {
  if (input.flag('json')) {
    printJson(ctx, { running: true, url, ...(tlsUrl === undefined ? {} : { tlsUrl }), driver, pid });
    return;
  }
  print(ctx, url);
  if (tlsUrl !== undefined) say(ctx, `HTTPS: ${tlsUrl}`);
}

function optionsFrom(ctx: Context, input: Input): SupervisorOptions {
  const driver = input.text('driver');
  return {
    home: ctx.home,
    host: input.text('host') ?? '127.0.0.1',
    port: input.number('port') ?? DEFAULT_PORT,
    driver: driver === 'docker' || driver === 'process' || driver === 'kubernetes' ? driver : 'auto',
    tls: tlsFrom(ctx, input),
    api: input.text('api'),
    runtimes: ['node', ...input.list('runtimes')],
    metrics: input.text('metrics'),
    store: storeFrom(ctx, input),
    gateways: input.number('gateways'),
    controllers: input.number('controllers'),
    pool: input.number('pool'),
    memoryBudgetMib: input.number('memoryBudget'),
    allowUnfilteredEgress: input.flag('allowUnfilteredEgress'),
  };
}

/** As it may be shown; the password goes by FN_STORE. */
function storeFrom(ctx: Context, input: Input): string {
  try {
    return storeUrlToShow(parseStoreUrl(chooseStoreUrl(input.text('store'), ctx.env.FN_STORE || undefined)));
  } catch (error) {
    throw usageError(`FN_STORE: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** Throws where there is a password in it: what is typed can be read by every user of the machine. */
export function storeUrl(text: string): string {
  let address: StoreAddress;
  try {
    address = parseStoreUrl(text);
  } catch (error) {
    throw usageError(error instanceof Error ? error.message : String(error));
  }
  if (address.kind === 'redis' && address.password !== null)
    throw usageError(`a password on the command line can be read by every user (ps). Put the whole address in FN_STORE instead`);
  return storeUrlToShow(address);
}

/** Both or neither, by flag or by environment. */
function tlsFrom(ctx: Context, input: Input): TlsOptions | undefined {
  const listen = input.text('tlsListen') ?? (ctx.env.FN_TLS_LISTEN || undefined);
  const folder = input.text('tlsCerts') ?? (ctx.env.FN_TLS_CERTS || undefined);
  if (listen === undefined && folder === undefined) return undefined;
  if (listen === undefined) throw usageError('--tls-certs needs --tls-listen HOST:PORT, such as 127.0.0.1:8443');
  if (folder === undefined) throw usageError('--tls-listen needs --tls-certs DIR, a folder with NAME.crt and NAME.key');
  const certificates = resolve(ctx.cwd, folder);
  if (!statSync(certificates, { throwIfNoEntry: false })?.isDirectory()) throw usageError(`--tls-certs: ${folder} is not a folder`);
  const colon = hostAndPort(listen).lastIndexOf(':');
  const port = Number(listen.slice(colon + 1));
  if (port > 65_535) throw usageError(`--tls-listen: ${port} is not a port`);
  return { host: listen.slice(0, colon).replace(/^\[|\]$/g, ''), port, certificates };
}

function hostAndPort(text: string): string {
  if (!/^(?:\[[0-9a-fA-F:]+\]|[^:\s]+):\d{1,5}$/.test(text))
    throw usageError(`${JSON.stringify(text)} is not HOST:PORT, such as 127.0.0.1:7070`);
  return text;
}
