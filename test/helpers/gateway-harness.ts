/** A gateway in this process, with a fake controller and a folder for sockets; all of it gone after the test. */
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Clock } from '#kit/clock.ts';
import { silentLog } from '#kit/log.ts';
import { createGateway, type Gateway } from '../../gateway/app.ts';
import { type GatewayConfig, readConfig } from '../../gateway/config.ts';
import { FakeController } from './gateway-controller.ts';
import { FakeDispatcher } from './gateway-dispatcher.ts';
import { LinkFiles, type NetworkKind } from './link-files.ts';
import { runningClock } from './running-clock.ts';
import { waitFor } from './wait.ts';

export interface Harness {
  readonly dir: string;
  readonly controller: FakeController;
  /** Started, and linked, where `events` is `up`. */
  readonly dispatcher: FakeDispatcher;
  readonly gateway: Gateway;
  readonly port: number;
  readonly url: string;
  /** A path for a socket in the test's folder. */
  socket(name: string): string;
  /** Something to be closed at the end, the last first. */
  defer(close: () => unknown): void;
}

/** Runs `body` with a gateway whose link is up and that knows the controller's routes. */
export async function withGateway(
  body: (harness: Harness) => Promise<void>,
  {
    config = {},
    prepare = () => {},
    linked = true,
    events = 'none',
    link = 'unix',
    clock = runningClock,
  }: {
    config?: Partial<GatewayConfig>;
    prepare?: (controller: FakeController) => void;
    linked?: boolean;
    events?: 'none' | 'down' | 'up';
    /** How the controller is dialled. */
    link?: 'unix' | NetworkKind;
    clock?: Clock;
  } = {},
): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), 'fn-gw-'));
  const closers: (() => unknown)[] = [() => rmSync(dir, { recursive: true, force: true })];
  try {
    const network = link === 'unix' ? null : { kind: link, files: new LinkFiles(dir) };
    const controller = new FakeController(join(dir, 'link'), { network });
    prepare(controller);
    closers.push(() => controller.stop());
    if (linked) await controller.start();
    const dispatcher = new FakeDispatcher(join(dir, 'events'));
    closers.push(() => dispatcher.stop());
    if (events === 'up') await dispatcher.start();
    const eventsTarget = events === 'none' ? null : { kind: 'unix' as const, path: dispatcher.path };
    const defaults = readConfig({ FN_LINK_SOCKET: controller.path, FN_LISTEN: '127.0.0.1:0' });
    const gateway = createGateway(
      { ...defaults, link: controller.target, events: eventsTarget, drainDeadlineMs: 500, ...config },
      silentLog,
      clock,
    );
    closers.push(() => gateway.close());
    const address = await gateway.start();
    if (address === null || typeof address === 'string') throw new Error('not listening on a port');
    if (linked) await waitFor('the link', () => gateway.state.connected, { everyMs: 2 });
    if (events === 'up') await waitFor('the link to the dispatcher', () => gateway.state.events, { everyMs: 2 });
    await body({
      dir,
      controller,
      dispatcher,
      gateway,
      port: address.port,
      url: `http://127.0.0.1:${address.port}`,
      socket: (name) => join(dir, name),
      defer: (close) => closers.push(close),
    });
  } finally {
    for (const close of closers.toReversed()) await close();
  }
}

/** A client that writes bytes and reads bytes, for what no HTTP client would send. */
export class RawClient {
  text = '';
  closed = false;
  readonly socket: Socket;

  constructor(port: number) {
    this.socket = connect(port, '127.0.0.1');
    this.socket.on('data', (chunk) => {
      this.text += chunk.toString('latin1');
    });
    this.socket.on('close', () => {
      this.closed = true;
    });
    // A reset is one way to be closed.
    this.socket.on('error', () => {});
  }

  write(text: string): this {
    this.socket.write(text, 'latin1');
    return this;
  }

  /** Resolves when this has come. */
  async until(what: string | RegExp, timeoutMs = 30_000): Promise<string> {
    await waitFor(
      `${what} in ${JSON.stringify(this.text.slice(0, 500))}`,
      () => (typeof what === 'string' ? this.text.includes(what) : what.test(this.text)),
      { everyMs: 5, timeoutMs },
    );
    return this.text;
  }

  async untilClosed(timeoutMs = 30_000): Promise<string> {
    await waitFor('the connection to be closed', () => this.closed, { everyMs: 5, timeoutMs });
    return this.text;
  }

  close(): void {
    this.socket.destroy();
  }
}
