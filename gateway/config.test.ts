import { describe, expect, it } from 'vitest';
import { readConfig } from './config.ts';

const BASE = { FN_LINK_SOCKET: '/run/l', FN_LISTEN: '0.0.0.0:8080' };

describe('readConfig', () => {
  it('fills in every default', () => {
    const { trustedProxies, ...config } = readConfig({ ...BASE, FN_QUEUE_TIMEOUT_MS: '', OTHER: 'x', FN_HOME: '/ignored' });
    expect(trustedProxies.rules).toEqual([]);
    expect(config).toMatchInlineSnapshot(`
      {
        "calls": {
          "notablePerSecond": 200,
          "ring": 10000,
          "sampledPerSecond": 10,
          "slowMs": 1000,
        },
        "drainDeadlineMs": 30000,
        "drainDelayMs": 0,
        "events": null,
        "gatewayId": undefined,
        "headersTimeoutMs": 10000,
        "healthListen": null,
        "jwksAllow": [],
        "keepAliveTimeoutMs": 65000,
        "link": {
          "kind": "unix",
          "path": "/run/l",
        },
        "listen": {
          "host": "0.0.0.0",
          "port": 8080,
        },
        "logLevel": "info",
        "maxBodyBytes": 104857600,
        "maxCollectingBytes": 268435456,
        "maxConnections": 25000,
        "maxWaiting": 20000,
        "maxWaitingPerFunction": 5000,
        "metricsListen": null,
        "publicUrl": "http://localhost:8080",
        "queueTimeoutMs": 30000,
        "routesWaitMs": 2000,
        "streamGraceMs": 5000,
        "tlsListen": null,
      }
    `);
  });

  it.each([
    [{ FN_LINK_SOCKET: undefined }, 'FN_LINK_SOCKET'],
    [{ FN_LISTEN: undefined }, 'exactly one of'],
    [{ FN_LISTEN_FD: '3' }, 'exactly one of'],
    [{ FN_LISTEN: '8080' }, 'FN_LISTEN'],
    [{ FN_LISTEN: 'x:99999' }, 'FN_LISTEN'],
    [{ FN_MAX_BODY_BYTES: '-1' }, 'FN_MAX_BODY_BYTES'],
    [{ FN_TRUSTED_PROXIES: '10.0.0.0/8,nonsense' }, 'nonsense'],
    [{ FN_TRUSTED_PROXIES: '10.0.0.0/33' }, 'FN_TRUSTED_PROXIES'],
    [{ FN_GATEWAY_ID: 'a b' }, 'FN_GATEWAY_ID'],
    [{ FN_LINK: 'tls://c:7071', FN_LINK_TOKEN_FILE: '/t' }, 'exactly one of FN_LINK_SOCKET and FN_LINK'],
    [{ FN_LINK_SOCKET: '', FN_LINK: 'tls://c:7071' }, 'need FN_LINK_TOKEN_FILE'],
    [{ FN_LINK_SOCKET: '', FN_LINK: 'https://c:7071' }, 'must be tcp://HOST:PORT or tls://HOST:PORT'],
    [{ FN_LINK_SOCKET: '', FN_LINK: 'tcp://c:7071', FN_LINK_TOKEN_FILE: '/t', FN_LINK_CA_FILE: '/ca' }, 'FN_LINK_CA_FILE is for'],
    [
      { FN_EVENTS_SOCKET: '/e', FN_EVENTS_LINK: 'tcp://c:7072', FN_LINK_TOKEN_FILE: '/t' },
      'only one of FN_EVENTS_SOCKET and FN_EVENTS_LINK',
    ],
  ])('%j is refused by name', (env, named) => {
    expect(() => readConfig({ ...BASE, ...env })).toThrow(named);
  });

  it('reads where links are dialled over the network', () => {
    const { link, events } = readConfig({
      FN_LISTEN: ':8080',
      FN_LINK: 'tls://fn-controller.fn.svc:7071',
      FN_EVENTS_LINK: 'tcp://[fd00::1]:7072',
      FN_LINK_TOKEN_FILE: '/token',
      FN_LINK_CA_FILE: '/ca',
    });
    const tokenFile = '/token';
    expect(link).toEqual({ kind: 'tcp', host: 'fn-controller.fn.svc', port: 7071, tls: { caFile: '/ca' }, tokenFile });
    expect(events).toEqual({ kind: 'tcp', host: 'fd00::1', port: 7072, tls: null, tokenFile });
  });

  it('reads networks of both families', () => {
    const { trustedProxies } = readConfig({ ...BASE, FN_TRUSTED_PROXIES: '10.0.0.0/8, fd00::/8 ,127.0.0.1' });
    expect(trustedProxies.check('10.9.9.9')).toBe(true);
    expect(trustedProxies.check('fd12::1', 'ipv6')).toBe(true);
    expect(trustedProxies.check('127.0.0.2')).toBe(false);
  });
});
