import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { call } from '../../test/helpers/http.ts';
import { range, waitFor } from '../../test/helpers/wait.ts';
import { type HealthChecks, type HealthListener, serveHealth } from './health-listener.ts';
import { type Log, silentLog } from './log.ts';

const closers: (() => unknown)[] = [];
afterEach(() => {
  for (const close of closers.splice(0).toReversed()) close();
});

function serve(checks: HealthChecks, port = 0, log: Log = silentLog): HealthListener {
  const listener = serveHealth({ host: '127.0.0.1', port }, checks, log);
  closers.push(() => listener.close());
  return listener;
}

async function urlOf(listener: HealthListener): Promise<string> {
  const { port } = await waitFor('it to listen', () => listener.address, { everyMs: 2 });
  return `http://127.0.0.1:${port}`;
}

describe('probes', () => {
  it('are answered as it is at the moment, and only they', async () => {
    let fault: string | null = 'not yet';
    const url = await urlOf(serve({ '/livez': () => null, '/readyz': () => fault }));
    const ask = async (path: string, method = 'GET') => {
      const { status, text, headers } = await call(`${url}${path}`, { method });
      expect(headers.connection).toBe('close');
      return [status, text];
    };
    expect(await ask('/livez')).toEqual([200, 'ok\n']);
    expect(await ask('/readyz')).toEqual([503, 'not yet\n']);
    fault = null;
    expect(await ask('/readyz?verbose')).toEqual([200, 'ok\n']);
    expect(await ask('/readyz', 'HEAD')).toEqual([200, '']);
    expect(await ask('/readyz', 'POST')).toEqual([405, 'this can only be read\n']);
    expect(await ask('/metrics')).toEqual([404, 'there is /livez, /readyz\n']);
  });

  it('get through past those that say nothing: there are not many at a time', async () => {
    const url = await urlOf(serve({ '/livez': () => null }));
    const port = Number(new URL(url).port);
    const idle = range(40).map(() => connect(port, '127.0.0.1').on('error', () => {}));
    closers.push(() => idle.forEach((socket) => socket.destroy()));
    await waitFor('those beyond the bound to be closed', () => idle.filter((socket) => socket.resume().destroyed).length === 8, {
      everyMs: 2,
    });
    expect((await call(`${url}/livez`)).status).toBe(200);
  });

  it('wait for an address that is taken, and say so once', async () => {
    const other = createServer();
    other.listen(0, '127.0.0.1');
    await once(other, 'listening');
    const warnings: object[] = [];
    const listener = serve({ '/livez': () => null }, (other.address() as AddressInfo).port, {
      ...silentLog,
      warn: (fields: object) => void warnings.push(fields),
    });
    await waitFor('the warning', () => warnings.length > 0, { everyMs: 2 });
    expect(listener.address).toBeNull();
    other.close();
    expect((await call(`${await urlOf(listener)}/livez`)).status).toBe(200);
    expect(warnings).toHaveLength(1);
  });
});
