/**
 * Two gateways on one controller, one at its socket and one over TLS as from another host: they agree on who gets which revision, share limits, hear of what is
 * revoked before that is answered, and whatever changes under load through both, no request is lost.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { connect } from 'node:tls';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { FunctionAccessInput } from '#contract/access.ts';
import { Why } from '#contract/call.ts';
import { testAuthority } from '../helpers/certificates.ts';
import { type Answer, call, type CallOptions } from '../helpers/http.ts';
import { type LedgerEntry, Load, tally } from '../helpers/load.ts';
import { LinkFiles } from '../helpers/link-files.ts';
import { freePort, RUN_FOLDER } from '../helpers/platform.ts';
import { SecondGateway } from '../helpers/second-gateway.ts';
import { usePlatform } from '../helpers/suite.ts';
import { parallel, range, waitFor } from '../helpers/wait.ts';

/** Answers with its version, or with its secret, after some ms, so that requests are in flight at any moment. */
const slowly = (text: string) => `
export default {
  fetch: async () => {
    await new Promise((resolve) => setTimeout(resolve, 5 + Math.random() * 10));
    return new Response(${text});
  },
};
`;
const version = (text: string) => slowly(JSON.stringify(text));
/** In flight until the caller has gone or the time is over. */
const HOLD = `export default async () => { await new Promise((resolve) => setTimeout(resolve, 6_000)); return 'held'; };`;

mkdirSync(RUN_FOLDER, { recursive: true });
const certificates = mkdtempSync(join(RUN_FOLDER, 'certs-'));
afterAll(() => rmSync(certificates, { recursive: true, force: true }));
const authority = testAuthority();
const [tlsPort, linkPort, eventsPort] = [await freePort(), await freePort(), await freePort()];
const network = new LinkFiles(mkdtempSync(join(RUN_FOLDER, 'link-')));
afterAll(() => rmSync(dirname(network.tokenFile), { recursive: true, force: true }));

function writeCertificate(name: string): string {
  const { cert, key } = authority.issue(name);
  writeFileSync(join(certificates, 'pair.key'), key, { mode: 0o600 });
  writeFileSync(join(certificates, 'pair.crt'), cert);
  return cert;
}

/** The certificate that is presented for a name, PEM; null where the handshake fails. */
const presented = (port: number, servername: string): Promise<string | null> =>
  new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port, servername, ca: authority.cert });
    socket.once('secureConnect', () => {
      resolve(socket.getPeerX509Certificate()?.toString() ?? null);
      socket.destroy();
    });
    socket.once('error', () => resolve(null));
  });

/** Entries that were sent after one moment and had ended before another. */
const between = (entries: readonly LedgerEntry[], from: number, to = Infinity) =>
  entries.filter((entry) => entry.from >= from && entry.to <= to);

describe('two gateways', () => {
  writeCertificate('first.test');
  const platform = usePlatform({
    driver: 'process',
    env: {
      FN_TLS_LISTEN: `127.0.0.1:${tlsPort}`,
      FN_TLS_CERTS: certificates,
      FN_LINK_LISTEN: `127.0.0.1:${linkPort}`,
      FN_EVENTS_LISTEN: `127.0.0.1:${eventsPort}`,
      FN_LINK_TOKEN_FILE: network.tokenFile,
      FN_LINK_TLS_DIR: network.tlsDir,
      // What is explained is what gateways remember.
      FN_CALLS_SAMPLED_PER_SECOND: '0',
    },
  });
  let second: SecondGateway;
  beforeAll(async () => {
    second = await SecondGateway.start(platform(), {
      FN_CALLS_SAMPLED_PER_SECOND: '0',
      FN_LINK: `tls://localhost:${linkPort}`,
      FN_EVENTS_LINK: `tls://localhost:${eventsPort}`,
      FN_LINK_TOKEN_FILE: network.tokenFile,
      FN_LINK_CA_FILE: network.caFile,
    });
  });
  afterAll(() => second.kill());

  const either = () => [platform(), second];
  const both = (path: string, options?: CallOptions): Promise<Answer[]> =>
    Promise.all(either().map((gateway) => gateway.call(path, options)));
  const api = async (method: string, path: string, body?: unknown): Promise<Answer> => {
    const answer = await call(`http://fn/v1${path}`, {
      socketPath: join(platform().runDir, 'control', 's'),
      method,
      ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
    });
    if (answer.status >= 300) throw new Error(`${method} ${path}: ${answer.status} ${answer.text}`);
    return answer;
  };
  const setAccess = (name: string, access: FunctionAccessInput) => api('PUT', `/namespaces/default/functions/${name}/access`, access);
  const setTraffic = (name: string, shares: Record<number, number>) =>
    api('PUT', `/namespaces/default/functions/${name}/traffic`, {
      traffic: Object.entries(shares).map(([revision, percent]) => ({ revision: Number(revision), percent })),
    });
  const setQuota = (quota: object) => api('PUT', '/namespaces/default', { quota });
  /** Load through each of the two. */
  const loadOnBoth = (path: string): Load[] => either().map(({ url }) => new Load({ url: () => `${url}${path}`, connections: 4 }));
  const stopAll = (loads: readonly Load[]) => Promise.all(loads.map((load) => load.stop()));
  /** Waits until so many requests that were sent after a moment have been answered by each. */
  const answered = (loads: readonly Load[], since: number, count: number) =>
    waitFor(`${count} answers of each`, () => loads.every(({ entries }) => between(entries, since).length >= count), { timeoutMs: 60_000 });

  it('give a client the same revision, by its header and by the cookie of either', async () => {
    await platform().deploy('split', version('one'));
    await platform().deploy('split', version('two'));
    await setTraffic('split', { 1: 50, 2: 50 });
    await setAccess('split', { sticky: { by: 'header', name: 'x-user' } });
    const answers = await parallel(range(40), 4, (user) => both('/split', { headers: { 'x-user': `u${user}` } }));
    expect(answers.filter(([a, b]) => a!.status !== 200 || a!.text !== b!.text)).toEqual([]);
    // Each of 40 by chance of one half.
    expect(new Set(answers.map(([a]) => a!.text))).toEqual(new Set(['one', 'two']));
    await setAccess('split', { sticky: { by: 'cookie', name: 'which' } });
    for (const [from, to] of [either(), either().toReversed()]) {
      const first = await from!.call('/split');
      const cookie = /^which=[^;]+/.exec(first.headers['set-cookie']?.[0] ?? '')?.[0] ?? '';
      expect(cookie).not.toBe('');
      for (const _ of range(8)) expect((await to!.call('/split', { headers: { cookie } })).text).toBe(first.text);
    }
  });

  it('hear of a token that is revoked before that is answered', async () => {
    await platform().deploy('mine', version('mine'));
    await setAccess('mine', { auth: { type: 'token' } });
    for (const round of range(3)) {
      const created = await api('POST', '/tokens', { name: `caller-${round}`, scopes: ['invoke'], namespaces: ['default'] });
      const { id, token } = created.json<{ id: string; token: string }>();
      const headers = { authorization: `Bearer ${token}` };
      expect((await both('/mine', { headers })).map(({ status }) => status)).toEqual([200, 200]);
      await api('DELETE', `/tokens/${id}`);
      expect((await both('/mine', { headers })).map(({ status }) => status)).toEqual([401, 401]);
    }
  });

  it('present the same certificates, and the renewed one without a restart', async () => {
    const before = await Promise.all([tlsPort, second.tlsPort].map((port) => presented(port, 'first.test')));
    expect(before[0]).not.toBeNull();
    expect(before[1]).toBe(before[0]);
    const renewed = writeCertificate('first.test').trim();
    for (const port of [tlsPort, second.tlsPort])
      await waitFor('the renewed certificate', async () => (await presented(port, 'first.test'))?.trim() === renewed);
  });

  it('both tell of their calls, sampled or not', async () => {
    await platform().deploy('told', version('told'));
    await both('/told');
    const [first, other] = (await both('/told?secret=1')).map(({ headers }) => String(headers['x-request-id']));
    // A gateway that stands still for half a second is not waited for, and asked anew here.
    const explained = (id: string | undefined) =>
      waitFor(`what became of ${id}`, async () => Why.parse((await api('GET', `/namespaces/default/calls/${id}`)).json()));
    const why = async (id: string | undefined) => (await explained(id)).call;
    expect(await why(first)).toMatchObject({ gateway: `gw-${platform().homeId}`, path: '/told', status: 200 });
    expect(await why(other)).toMatchObject({ gateway: 'second', path: '/told', status: 200 });
    // A client may choose the id: then it is one of two calls.
    const headers = { 'x-request-id': 'of-both' };
    await both('/told', { headers });
    await expect.poll(async () => (await explained('of-both')).others).toBe(1);
  });

  it('both take what is to be answered later, and answer for it', async () => {
    await platform().deploy('later', version('later'));
    for (const gateway of either()) {
      const headers = { prefer: 'respond-async' };
      const accepted = await waitFor('it to be accepted', async () => {
        const answer = await gateway.call('/later', { method: 'POST', headers });
        // The dispatcher is started for the first one.
        return answer.status === 202 ? answer : null;
      });
      const id = accepted.json<{ id: string }>().id;
      for (const other of either()) {
        const result = await waitFor('the result', async () => {
          const answer = await other.call(`/.fn/invocations/${id}/result`);
          return answer.status === 200 ? answer : null;
        });
        expect(result.text).toBe('later');
      }
    }
  });

  it('deployed, rolled back, shifted, with another secret, under load through both: nothing fails and no version is mixed', async () => {
    const setSecret = (value: string) => api('PUT', '/namespaces/default/secrets/WORD', { value });
    const flags = ['--concurrency', '2', '--secret', 'WORD'];
    await setSecret('alpha');
    const speaker = (number: number) => slowly(`'${number} ' + process.env.WORD`);
    await platform().deploy('busy', speaker(1), { flags });
    const loads = loadOnBoth('/busy');
    const phases: { from: number; to: number; bodies: string[] }[] = [];
    const phase = async (change: () => Promise<unknown>, ...expected: string[]) => {
      const before = phases.at(-1);
      if (before) before.to = performance.now();
      await change();
      phases.push({ from: performance.now(), to: Infinity, bodies: expected });
      await answered(loads, performance.now(), 60);
    };
    try {
      await phase(async () => {}, '1 alpha');
      await phase(() => platform().deploy('busy', speaker(2), { flags }), '2 alpha');
      await phase(() => setTraffic('busy', { 1: 50, 2: 50 }), '1 alpha', '2 alpha');
      await phase(() => platform().fnOk(['rollback', 'busy', '1']), '1 alpha');
      await phase(async () => {
        await setSecret('beta');
        await waitFor('the new value', async () => {
          const since = performance.now();
          await answered(loads, since, 20);
          return loads.every(({ entries }) => between(entries, since).every(({ body }) => body.endsWith('beta')));
        });
      }, '1 beta');
      await phase(() => platform().deploy('busy', speaker(3), { flags }), '3 beta');
    } finally {
      await stopAll(loads);
    }
    for (const { entries } of loads) {
      expect(tally(entries)).toEqual({});
      for (const { from, to, bodies } of phases)
        expect([...new Set(between(entries, from, to).map(({ body }) => body))].sort()).toEqual(bodies);
    }
  });

  it('share the limits of functions and namespaces; when one is killed the other has all, serves on, and loses nothing', async () => {
    await platform().deploy('rare', version('rare'));
    await platform().deploy('held', HOLD, { flags: ['--concurrency', '1', '--max', '4'] });
    await platform().deploy('on', version('on'), { flags: ['--concurrency', '2', '--max', '2'] });
    // So slow that none is added meanwhile.
    const limit = (burst: number) => setAccess('rare', { rateLimit: { requestsPerSecond: 0.01, burst } });
    const passed = async (gateway: { call: SecondGateway['call'] }, path: string, tries: number): Promise<number> =>
      (await Promise.all(range(tries).map(() => gateway.call(path)))).filter(({ status }) => status === 200).length;
    await limit(8);
    expect([await passed(platform(), '/rare', 6), await passed(second, '/rare', 6)]).toEqual([4, 4]);
    await setQuota({ concurrency: 4 });
    expect(await Promise.all(either().map((gateway) => passed(gateway, '/held', 4)))).toEqual([2, 2]);
    await setQuota({});
    // Its slots are taken when it is killed, all of them through the other gateway.
    const loads = loadOnBoth('/on');
    let killedAt = 0;
    try {
      await answered(loads, 0, 40);
      killedAt = performance.now();
      await second.kill();
      await answered(loads.slice(0, 1), killedAt, 100);
    } finally {
      await stopAll(loads);
    }
    const [kept, cut] = loads.map(({ entries }) => entries);
    expect(tally(kept!)).toEqual({});
    expect(tally(between(cut!, 0, killedAt))).toEqual({});
    await setQuota({ concurrency: 4 });
    await waitFor('all of the limit', async () => (await passed(platform(), '/held', 5)) === 4);
    await setQuota({});
  });
});
