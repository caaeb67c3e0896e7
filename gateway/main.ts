/** The gateway's process: reads the environment, listens, and ends at SIGTERM without failing a request. */
import { onShutdown } from '#kit/shutdown.ts';
import { createLog } from '#kit/log.ts';
import { createGateway } from './app.ts';
import { type GatewayConfig, readConfig } from './config.ts';

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

const config = configOrExit();
const log = createLog('gateway', config.logLevel);

// What nobody caught leaves the process in an unknown state: the supervisor starts a fresh one.
process.on('uncaughtException', (error) => {
  log.error({ error: error instanceof Error ? (error.stack ?? error.message) : String(error) }, 'uncaught error');
  process.exit(1);
});

const gateway = createGateway(config, log);
onShutdown(
  async () => {
    log.info({}, 'draining');
    await gateway.close();
    log.info({}, 'drained');
  },
  { deadlineMs: config.drainDeadlineMs + EXIT_GRACE_MS },
);
const address = await gateway.start();
log.info({ address, pid: process.pid }, 'listening');
