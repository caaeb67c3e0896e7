/** The gateway's process: reads the environment, listens, and ends at SIGTERM without failing a request. */
import { onShutdown } from '#kit/shutdown.ts';
import { createLog, type Log } from '#kit/log.ts';
import { systemClock } from '#kit/clock.ts';
import { planTelemetry } from '#kit/telemetry.ts';
import metadata from '../package.json' with { type: 'json' };
import { createGateway, type Gateway } from './app.ts';
import { type GatewayConfig, readConfig } from './config.ts';
import { connectionsWithin, ownMostOpenFiles } from './open-files.ts';
import { startGatewayTelemetry } from './telemetry.ts';

/** For the end of the link, after the drain deadline. */
const EXIT_GRACE_MS = 2_000;

function configOrExit(): GatewayConfig {
  try {
    return readConfig(process.env);
  } catch (error) {
    createLog('gateway', 'error').error({ error: error instanceof Error ? error.message : String(error) }, 'the settings are wrong');
    process.exit(78);
  }
}

/** With as many connections as this process may have files for. */
function withinLimits(config: GatewayConfig, log: Log): GatewayConfig {
  const files = ownMostOpenFiles();
  const wanted = config.maxConnections;
  const maxConnections = connectionsWithin(files, { wanted, listeners: config.tlsListen === null ? 1 : 2 });
  if (maxConnections < wanted) {
    const advice =
      'raise the limit of open files (ulimit -n, LimitNOFILE of systemd, --ulimit nofile of Docker), or lower FN_MAX_CONNECTIONS';
    log.warn({ files, wanted, maxConnections, advice }, 'fewer connections than FN_MAX_CONNECTIONS says are accepted');
  }
  return { ...config, maxConnections };
}

const given = configOrExit();
const log = createLog('gateway', given.logLevel);
const config = withinLimits(given, log);

// What nobody caught leaves the process in an unknown state: the supervisor starts a fresh one.
process.on('uncaughtException', (error) => {
  log.error({ error: error instanceof Error ? (error.stack ?? error.message) : String(error) }, 'uncaught error');
  process.exit(1);
});

const plan = planTelemetry(process.env, config.metricsListen);
const telemetry =
  plan === null
    ? null
    : await startGatewayTelemetry({ plan, version: metadata.version, state: () => gateway.state, clock: systemClock, log });
const gateway: Gateway = createGateway(config, log, systemClock, telemetry);
onShutdown(
  async () => {
    log.info({}, 'draining');
    await gateway.close();
    await telemetry?.close();
    log.info({}, 'drained');
  },
  { deadlineMs: config.drainDelayMs + config.drainDeadlineMs + EXIT_GRACE_MS },
);
const address = await gateway.start();
log.info({ address, pid: process.pid }, 'listening');
