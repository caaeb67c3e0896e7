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
  ])('%j is refused by name', (env, named) => {
    expect(() => readConfig({ ...BASE, ...env })).toThrow(named);
  });

  it('reads networks of both families', () => {
    const { trustedProxies } = readConfig({ ...BASE, FN_TRUSTED_PROXIES: '10.0.0.0/8, fd00::/8 ,127.0.0.1' });
    expect(trustedProxies.check('10.9.9.9')).toBe(true);
    expect(trustedProxies.check('fd12::1', 'ipv6')).toBe(true);
    expect(trustedProxies.check('127.0.0.2')).toBe(false);
  });
});
