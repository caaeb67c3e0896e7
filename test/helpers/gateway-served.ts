/** A function behind a whole gateway, for tests of the way of a request. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Harness } from './gateway-harness.ts';
import { startInstance } from './gateway-instance.ts';
import { call } from './http.ts';
import { waitFor } from './wait.ts';

export type Handler = (incoming: IncomingMessage, outgoing: ServerResponse) => void;

/** An instance, routed as `hello` and granted when it is wanted. */
export async function serve(harness: Harness, handler: Handler, { slots = 50, name = 'hello', timeoutMs = 10_000 } = {}) {
  const instance = await startInstance(harness.socket(name), handler);
  harness.defer(() => instance.stop());
  harness.controller.grantOnDemand(() => instance.address, slots);
  harness.controller.route(name, { timeoutMs });
  await waitFor('the route', async () => (await call(`${harness.url}/.fn/ready`)).status === 200);
  await harness.controller.hear('routed', (message) => message.version === harness.controller.version);
  return instance;
}
