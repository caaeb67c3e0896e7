/** The gateway as a process: an inherited socket, SIGTERM under load, a successor beside it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { Agent, type ServerResponse } from 'node:http';
import * as net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { FakeController } from '../test/helpers/gateway-controller.ts';
import { type FakeInstance, startInstance } from '../test/helpers/gateway-instance.ts';
import { RawClient } from '../test/helpers/gateway-harness.ts';
import { call, open } from '../test/helpers/http.ts';
import { LinkFiles } from '../test/helpers/link-files.ts';
import { freePort } from '../test/helpers/platform.ts';
import { sleep, waitFor } from '../test/helpers/wait.ts';

const MAIN = join(import.meta.dirname, 'main.ts');

interface Stage {
  controller: FakeController;
  instance: FakeInstance;
  port: number;
  url: string;
  /** Requests to /hold that wait to be answered. */
  held: (() => void)[];
  /** Requests to /endless… whose answer was cut off. */
  cutOff: string[];
  /** Starts a gateway on the inherited socket, with so many files that it may open, and settings of its own. */
  launch(options?: LaunchOptions): Running;
  /** The same, and waits until it is linked. */
  start(options?: LaunchOptions): Promise<Running>;
}

interface LaunchOptions {
  openFiles?: number;
  env?: Record<string, string>;
}

interface Running {
  child: ChildProcess;
  log: () => string;
  /** Exit code. */
  ended: Promise<number | null>;
}

/** A listening socket that is held here and passed on, as the supervisor does. */
async function withStage(body: (stage: Stage) => Promise<void>): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), 'fn-gwm-'));
  const controller = await new FakeController(join(dir, 'link')).start();
  const held: (() => void)[] = [];
  const cutOff: string[] = [];
  const instance = await startInstance(join(dir, 'i'), (incoming, outgoing) => {
    if (incoming.url === '/hold') held.push(() => outgoing.end('held'));
    else if (incoming.url?.startsWith('/endless')) pour(outgoing, () => cutOff.push(incoming.url!));
    else outgoing.end('ok');
  });
  controller.route('hello');
  controller.onMessage = (message) => {
    if (message.type === 'want' && message.waiting > 0) controller.grant(message.revision, instance.address, { slots: 50 });
  };
  const { fd, port, close } = bindSocket();
  const children: ChildProcess[] = [];
  const launch = ({ openFiles, env }: LaunchOptions = {}): Running => {
    const limited = openFiles === undefined ? '' : `ulimit -n ${openFiles} && `;
    const child = spawn('sh', ['-c', `${limited}exec "$0" "$1"`, process.execPath, MAIN], {
      stdio: ['ignore', 'ignore', 'pipe', fd],
      env: { FN_LINK_SOCKET: controller.path, FN_LISTEN_FD: '3', FN_GATEWAY_ID: 'g', ...env },
    });
    children.push(child);
    let log = '';
    child.stderr!.on('data', (chunk: Buffer) => {
      log += chunk.toString();
    });
    return { child, log: () => log, ended: once(child, 'exit').then(([code]) => code as number | null) };
  };
  try {
    await body({
      controller,
      instance,
      port,
      url: `http://127.0.0.1:${port}`,
      held,
      cutOff,
      launch,
      async start(options) {
        const links = controller.all('hello').length;
        const running = launch(options);
        await waitFor('listening', () => running.log().includes('"listening"') && controller.all('hello').length > links, { everyMs: 5 });
        return running;
      },
    });
  } finally {
    for (const child of children) child.kill('SIGKILL');
    close();
    await instance.stop();
    await controller.stop();
    rmSync(dir, { recursive: true, force: true });
  }
}

/** Writes for as long as somebody reads, and tells of the end. */
function pour(outgoing: ServerResponse, onClosed: () => void): void {
  const piece = Buffer.alloc(64 * 1_024, 'a');
  const write = () => {
    while (outgoing.write(piece));
  };
  outgoing.on('drain', write).on('close', onClosed);
  write();
}

/** Bound, neither listening nor accepting: what the supervisor holds. Node offers it without documenting it. */
function bindSocket(): { fd: number; port: number; close: () => void } {
  const create = Reflect.get(net, '_createServerHandle') as (address: string, port: number, family: number) => unknown;
  const handle = create('127.0.0.1', 0, 4);
  if (typeof handle !== 'object' || handle === null) throw new Error(`cannot bind: ${String(handle)}`);
  const name: { port?: number } = {};
  (Reflect.get(handle, 'getsockname') as (into: object) => number).call(handle, name);
  return {
    fd: Reflect.get(handle, 'fd') as number,
    port: name.port!,
    close: () => (Reflect.get(handle, 'close') as () => void).call(handle),
  };
}

describe('the process', () => {
  it('says which settings are wrong, and ends', async () => {
    const child = spawn(process.execPath, [MAIN], { stdio: ['ignore', 'ignore', 'pipe'], env: { FN_LINK: 'http://x', FN_LISTEN: 'x' } });
    let log = '';
    child.stderr.on('data', (chunk: Buffer) => {
      log += chunk.toString();
    });
    const [code] = (await once(child, 'close')) as [number];
    expect(code).toBe(78);
    expect(log).toMatch(/FN_LINK: .*FN_LISTEN: /);
  });

  it('at SIGTERM ends what is in flight with Connection: close, gives leases back, and leaves the socket', async () => {
    await withStage(async ({ controller, start, url, port, held }) => {
      // Idle connections are looked at only after it: a machine that stands still has time to ask on one.
      const drainDelayMs = 3_000;
      const first = await start({ env: { FN_DRAIN_DELAY_MS: String(drainDelayMs) } });
      const { request, response } = open(`${url}/hello/hold`);
      request.end();
      const idle = new RawClient(port).write('GET /hello HTTP/1.1\r\nHost: a\r\n\r\n');
      await waitFor('it to be held', () => held.length === 1, { everyMs: 5 });
      await idle.until('ok');
      first.child.kill('SIGTERM');
      await waitFor('draining', () => first.log().includes('"draining"'), { everyMs: 5 });
      // A request on a connection that was idle is still answered, and the connection ended.
      idle.write('GET /hello HTTP/1.1\r\nHost: a\r\n\r\n');
      expect(await idle.untilClosed()).toMatch(/HTTP\/1\.1 200 OK[^]*HTTP\/1\.1 200 OK[^]*Connection: close/i);
      // Past that, and past the second that idle connections have then: what is in flight is none of them.
      await sleep(drainDelayMs + 1_200);
      held[0]!();
      const incoming = await response;
      expect(incoming.headers.connection).toBe('close');
      incoming.resume();
      expect(await first.ended).toBe(0);
      expect(controller.all('release').length).toBeGreaterThan(0);
      // Nobody accepts now; who connects waits for the next one.
      const waiting = call(`${url}/hello`);
      const second = await start();
      expect((await waiting).status).toBe(200);
      const [one, two] = controller.all('hello');
      expect([one!.gateway, two!.gateway]).toEqual(['g', 'g']);
      expect(one!.boot).not.toBe(two!.boot);
      second.child.kill('SIGTERM');
      expect(await second.ended).toBe(0);
    });
  });

  it('whoever never reads an answer does not hold it beyond the deadline of its drain, and the function hears that nobody reads', async () => {
    await withStage(async ({ start, port, held, url, cutOff }) => {
      const { child, ended, log } = await start({ env: { FN_DRAIN_DEADLINE_MS: '3000' } });
      // The first comes in one packet and the second in two, so that both ways of reading requests are seen.
      const deaf = [['GET /hello/endless/1 HTTP/1.1\r\nHost: a\r\n\r\n'], ['GET /hello/endless/2 HTTP/1.1\r\n', 'Host: a\r\n\r\n']].map(
        (packets) => {
          const socket = net.connect(port, '127.0.0.1').pause();
          socket.on('error', () => {}); // it is cut
          for (const [at, packet] of packets.entries()) setTimeout(() => socket.write(packet), at * 100);
          return socket;
        },
      );
      const { request, response } = open(`${url}/hello/hold`);
      request.end();
      try {
        await Promise.all(deaf.map((socket) => once(socket, 'readable')));
        await waitFor('it to be held', () => held.length === 1, { everyMs: 5 });
        expect(cutOff).toEqual([]);
        child.kill('SIGTERM');
        await waitFor('draining', () => log().includes('"draining"'), { everyMs: 5 });
        held[0]!();
        (await response).resume();
        expect(await ended).toBe(0);
        await waitFor('the function to hear of it', () => cutOff.length === 2, { everyMs: 5 });
      } finally {
        for (const socket of deaf) socket.destroy();
      }
    });
  });

  it('two on one port have leases of their own: what one gives back the other keeps using', async () => {
    await withStage(async ({ controller, start, url, instance }) => {
      controller.grantOnDemand(() => instance.address, 50);
      const running = [await start(), await start()];
      // The kernel chooses who gets a connection, so each request comes by another one.
      const ask = async (): Promise<void> => expect((await call(`${url}/hello`)).status).toBe(200);
      await waitFor('both to have asked', async () => (await ask(), new Set(controller.granted.map(({ to }) => to)).size === 2), {
        everyMs: 1,
      });
      running[0]!.child.kill('SIGTERM');
      expect(await running[0]!.ended).toBe(0);
      await Promise.all(Array.from({ length: 20 }, ask));
      running[1]!.child.kill('SIGTERM');
      expect(await running[1]!.ended).toBe(0);
      // Each was held by one alone: it was given back, and once.
      const released = controller.all('release').map(({ lease }) => lease);
      expect(released.toSorted()).toEqual(controller.granted.map(({ lease }) => lease).toSorted());
    });
  });

  it('as in a pod: dials over TLS, listens by itself, is ready when it is, and at SIGTERM is seen to end before it does', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'fn-gwp-'));
    const files = new LinkFiles(dir);
    const controller = await new FakeController(join(dir, 'link'), { network: { kind: 'tls', files } }).start();
    const instance = await startInstance(join(dir, 'i'), (_incoming, outgoing) => outgoing.end('ok'));
    controller.route('hello');
    controller.grantOnDemand(() => instance.address);
    const { target } = controller;
    const [port, healthPort] = [await freePort(), await freePort()];
    const child = spawn(process.execPath, [MAIN], {
      stdio: ['ignore', 'ignore', 'ignore'],
      env: {
        FN_LINK: target.kind === 'tcp' ? `tls://${target.host}:${target.port}` : '',
        FN_LINK_TOKEN_FILE: files.tokenFile,
        FN_LINK_CA_FILE: files.caFile,
        FN_LISTEN: `127.0.0.1:${port}`,
        FN_HEALTH_LISTEN: `127.0.0.1:${healthPort}`,
        FN_GATEWAY_ID: 'gateway-7c9d-x2x4',
        FN_DRAIN_DELAY_MS: '5000',
      },
    });
    const ended = once(child, 'exit');
    const ready = async () => (await call(`http://127.0.0.1:${healthPort}/readyz`)).status;
    try {
      await waitFor('it to be ready', async () => (await ready()) === 200);
      expect(controller.all('hello')[0]!.gateway).toBe('gateway-7c9d-x2x4');
      expect((await call(`http://127.0.0.1:${port}/hello`)).text).toBe('ok');
      child.kill('SIGTERM');
      await waitFor('it to be seen', async () => (await ready()) === 503, { everyMs: 5 });
      const late = await call(`http://127.0.0.1:${port}/hello`);
      expect([late.text, late.headers.connection]).toEqual(['ok', 'close']);
      expect(await ended).toEqual([0, null]);
    } finally {
      child.kill('SIGKILL');
      await instance.stop();
      await controller.stop();
      rmSync(dir, { recursive: true, force: true });
    }
  });

  it('lets those who wait in an inherited socket wait for the routes, too', async () => {
    await withStage(async ({ controller, launch, start, url }) => {
      const first = await start();
      first.child.kill('SIGTERM');
      expect(await first.ended).toBe(0);
      await controller.stop();
      const second = launch();
      const waiting = call(`${url}/hello`);
      // Long enough for it to be up, and to answer 503 if it accepted now.
      await sleep(1_000);
      expect(second.log()).not.toContain('"listening"');
      await controller.start();
      expect((await waiting).status).toBe(200);
    });
  });

  it('accepts no more connections than it can have files for, and says what to do', async () => {
    await withStage(async ({ launch, port, url }) => {
      const running = launch({ openFiles: 276 });
      await waitFor('listening', () => running.log().includes('"listening"'), { everyMs: 5 });
      const told = running
        .log()
        .split('\n')
        .filter((line) => line.includes('FN_MAX_CONNECTIONS says'));
      expect(told).toHaveLength(1);
      expect(JSON.parse(told[0]!)).toMatchObject({ level: 'warn', files: 276, wanted: 25_000, maxConnections: 10 });
      expect(told[0]).toContain('ulimit -n');
      const sockets = Array.from({ length: 10 }, () => net.connect(port, '127.0.0.1'));
      try {
        await Promise.all(sockets.map((socket) => once(socket, 'connect')));
        await expect(call(`${url}/hello`)).rejects.toThrow();
        sockets.pop()!.destroy();
        await waitFor('room', async () => (await call(`${url}/hello`)).status === 200);
      } finally {
        for (const socket of sockets) socket.destroy();
      }
    });
  });

  it('is replaced under load, again and again, and no request fails', async () => {
    await withStage(async ({ start, url }) => {
      let current = await start();
      const load = { running: true };
      const agent = new Agent({ keepAlive: true });
      const workers = Array.from({ length: 8 }, async () => {
        let count = 0;
        while (load.running) {
          const answer = await call(`${url}/hello`, { agent });
          expect(answer.text).toBe('ok');
          count++;
        }
        return count;
      });
      for (let i = 0; i < 3; i++) {
        const next = await start();
        current.child.kill('SIGTERM');
        expect(await current.ended).toBe(0);
        current = next;
      }
      load.running = false;
      expect((await Promise.all(workers)).reduce((sum, count) => sum + count)).toBeGreaterThan(100);
      agent.destroy();
    });
  });

  it('holds little memory and no open files for functions that are idle', async () => {
    await withStage(async ({ start, url, controller }) => {
      const { child } = await start();
      for (let i = 0; i < 50; i++) expect((await call(`${url}/hello`)).status).toBe(200);
      await controller.hear('release');
      const pss = Number(/^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${child.pid}/smaps_rollup`, 'utf8'))![1]) / 1_024;
      expect(pss).toBeLessThan(110);
    });
  });
});
