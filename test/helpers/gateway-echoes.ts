/** Functions behind a whole gateway, for tests of who reaches which. */
import type { KeyObject } from 'node:crypto';
import { SignJWT } from 'jose';
import { RouteSpec } from '#contract/access.ts';
import { type RouteOverrides, testRoute } from './gateway-controller.ts';
import type { Harness } from './gateway-harness.ts';
import { startInstance } from './gateway-instance.ts';
import type { Answer } from './http.ts';

interface Seen {
  revision: string;
  method: string;
  url: string;
  headers: Record<string, string>;
}

/** Every revision of every function gets an instance, as soon as it is wanted, that says what it saw. */
export function echoes(harness: Harness): void {
  let instances = 0;
  /** By revision, its lease, until it is given back; null: about to be granted. */
  const leases = new Map<string, string | null>();
  harness.controller.onMessage = (message) => {
    if (message.type === 'release') for (const [revision, lease] of leases) if (lease === message.lease) leases.delete(revision);
    if (message.type !== 'want' || message.waiting === 0 || leases.has(message.revision)) return;
    leases.set(message.revision, null);
    void (async () => {
      const path = harness.socket(`${message.revision.replace(/\W/g, '_')}-${(instances += 1)}`);
      const instance = await startInstance(path, ({ method, url, headers }, outgoing) => {
        outgoing.setHeader('access-control-allow-origin', 'https://of-the-function.test');
        outgoing.setHeader('fn-revision', 'spoofed');
        outgoing.setHeader('clear-site-data', '"*"');
        outgoing.end(JSON.stringify({ revision: message.revision, method, url, headers }));
      });
      harness.defer(() => instance.stop());
      leases.set(message.revision, harness.controller.grant(message.revision, instance.address, { slots: 50 }).lease);
    })();
  };
}

/** Routes requests for a function, and resolves when the gateway has heard. `shares`: percent by revision. */
export async function put(
  harness: Harness,
  name: string,
  options: RouteOverrides & { shares?: Record<number, number>; namespace?: string } = {},
): Promise<void> {
  const { shares = { 1: 100 }, namespace = 'default', ...overrides } = options;
  harness.controller.put(testRoute(namespace, name, shares, overrides));
  await harness.controller.settled();
}

/** What the function saw, as `echoes` answers. */
export const seen = (answer: Answer): Seen => answer.json<Seen>();
/** Status and code of a problem. */
export const codeOf = (answer: Answer): [number, string] => [answer.status, answer.json<{ code: string }>().code];
/** A route with all that is not said of it. */
export const spec = (route: Partial<RouteSpec>): RouteSpec => RouteSpec.parse(route);

/** A token of five minutes for `alice`, by https://id.test for `api`; its key's id is `k`. */
export const signedToken = (privateKey: KeyObject): Promise<string> =>
  new SignJWT({ sub: 'alice' })
    .setProtectedHeader({ alg: 'EdDSA', kid: 'k' })
    .setIssuer('https://id.test')
    .setAudience('api')
    .setExpirationTime('5m')
    .sign(privateKey);
