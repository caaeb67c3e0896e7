/**
 * Two tenants walk every route of the API: each verb, each reference. What is another tenant's is
 * answered byte by byte as what is not there, and nothing changes. A route of docs/openapi.json without
 * a case here fails.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { FnError } from '#contract/errors.ts';
import type { Scope } from '#contract/tenancy.ts';
import { type Answer, ApiFixture, bundleOf } from '../../test/helpers/api-fixture.ts';
import { exampleDeadLetter, exampleInvocation } from '../../test/helpers/fake-events.ts';
import type { EngineImage, ImageStore } from '../driver/types.ts';
import { ABSENT_DIGEST, caseOf, CASES, files, IMAGE, MINE, NOBODY, OPERATIONS, schedule, there, THEIRS } from './tenants.cases.ts';

/** An engine with one image, whoever it is for. */
const engineImage: EngineImage = { id: IMAGE, reference: null, bytes: 1, port: null };
const images: ImageStore = {
  find: async (reference) => (reference === IMAGE || reference === 'theirs:latest' ? engineImage : null),
  load: async (archive) => {
    for await (const chunk of archive) expect(chunk.length).toBeGreaterThan(0);
    return engineImage;
  },
  pull: async (reference) => {
    throw new FnError('image-not-found', `The registry has no ${reference}.`);
  },
  hold: () => Promise.resolve(),
  release: () => Promise.reject(new Error('the API removes no images')),
};

let api: ApiFixture;
/** Admin of MINE: nobody has more rights who has not those of THEIRS. */
let mine: string;
let theirTokenId: string;

beforeAll(async () => {
  api = await ApiFixture.start({ images });
  ({ token: mine } = await api.tokenFor([MINE], 'admin'));
  ({ digest: there.digest, data: there.bundle } = await bundleOf(files));
  ({ id: theirTokenId } = await api.tokenFor([THEIRS], 'deploy'));
  await api.json('PUT', `/v1/namespaces/${THEIRS}`, { quota: { functions: 9 }, hosts: ['theirs.example.com'] });
});
afterAll(() => api.close());

beforeEach(async () => {
  api.platform.functions.clear();
  for (const namespace of [MINE, THEIRS]) {
    await api.upload(files, namespace);
    await api.store.addArtifact(namespace, 'image', IMAGE, 1);
    await api.json('PUT', `/v1/namespaces/${namespace}/secrets/${there.secret}`, { value: `of ${namespace}` });
    const deploy = { bundle: there.digest, entry: 'index.mjs', settings: {} };
    await api.json('POST', `/v1/namespaces/${namespace}/functions/${there.name}/revisions`, deploy);
    api.platform.explained.add(`${namespace} ${there.id}`);
    const of = { namespace, function: there.name };
    api.events.invocations.set(`${namespace}/${there.name} ${there.event}`, exampleInvocation(there.event, { ...of, finishedAt: null }));
    api.events.deadLetters.set(`${namespace}/${there.name} ${there.dead}`, exampleDeadLetter(there.dead, of));
    await api.json('PUT', `/v1/namespaces/${namespace}/functions/${there.name}/triggers/${there.trigger}`, schedule);
  }
  ({ id: there.token } = await api.tokenFor([MINE], 'read'));
  api.platform.calls.length = 0;
  api.changedSecrets.length = 0;
});

const fill = (path: string, parameters: Record<string, string>): string =>
  path.replaceAll(/\{(\w+)\}/g, (_, name: string) => parameters[name] ?? expect.fail(`${path}: no value for ${name}`));

interface Ask {
  method?: string;
  namespace?: string;
  params?: Record<string, string>;
  token?: string;
}

type Op = (typeof OPERATIONS)[number];

function ask(operation: Op, { method, namespace = MINE, params, token = mine }: Ask = {}): Promise<Answer> {
  const { body, params: usual } = caseOf(operation.id);
  const { type, data } = body?.() ?? { type: undefined, data: undefined };
  return api.call({
    method: method ?? operation.method,
    path: fill(operation.path, { namespace, ...(params ?? usual?.()) }),
    headers: type === undefined ? {} : { 'content-type': type },
    ...(data === undefined ? {} : { body: data }),
    token,
  });
}

/** All of an answer, with the names and ids that were asked for taken out. */
function plain({ status, headers, text }: Answer, asked: Ask & { params: Record<string, string> }): unknown {
  const { date: _date, 'x-request-id': requestId, 'content-length': length, ...rest } = headers;
  let body = text.replaceAll(String(requestId), 'REQUEST');
  for (const [index, value] of [asked.namespace ?? MINE, ...Object.values(asked.params)].entries())
    body = body.replaceAll(value, `<${index}>`);
  // Ids of requests grow by a digit now and then; all else that an answer is long by counts.
  return { status, headers: rest, body, length: length === undefined ? length : Number(length) - String(requestId).length };
}

async function answerOf(operation: Op, asked: Ask & { params: Record<string, string> }): Promise<unknown> {
  return plain(await ask(operation, asked), asked);
}

/** All that a tenant's own admin, and the store, can see of THEIRS. */
async function state(): Promise<unknown> {
  const { functions } = api.platform;
  const secrets = await api.store.listSecrets(THEIRS);
  const tokens = (await api.store.listTokens()).filter(({ namespaces }) => namespaces !== '*' && namespaces.includes(THEIRS));
  return structuredClone({
    functions: functions.get(`${THEIRS}/${there.name}`),
    invocations: [...api.events.invocations].filter(([key]) => key.startsWith(`${THEIRS}/`)),
    deadLetters: [...api.events.deadLetters].filter(([key]) => key.startsWith(`${THEIRS}/`)),
    secrets,
    tokens,
    namespaces: await api.store.listNamespaces(),
  });
}

describe('the walk', () => {
  it('covers every route of the document, and no other', () => {
    expect(Object.keys(CASES).toSorted()).toEqual(OPERATIONS.map(({ id }) => id).toSorted());
  });

  it('the document says who may, as it is written down here', () => {
    for (const { id, 'x-access': access, path } of OPERATIONS) {
      const { scope, platform } = caseOf(id);
      const namespace = platform === true ? 'platform' : path.includes('{namespace}') ? 'path' : 'filtered';
      expect({ id, ...access }).toEqual({ id, scope, namespace });
    }
  });
});

const withNamespace = OPERATIONS.filter(({ path }) => path.includes('{namespace}'));
const VERBS = ['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS'];

describe("another tenant's object is answered as if it were absent", () => {
  it.each(withNamespace)('$method $path', async (operation) => {
    const { params = () => ({}), absentParams = {}, absent, makes, platform } = caseOf(operation.id);
    const before = await state();
    const answer = await ask(operation, { namespace: THEIRS });
    expect(answer.status).toBe(404);
    // HEAD has no body.
    if (operation.method !== 'HEAD') expect(answer.problem.code).toBe(absent);

    const theirs = await answerOf(operation, { namespace: THEIRS, params: params() });
    expect(await answerOf(operation, { namespace: NOBODY, params: params() })).toEqual(theirs);
    expect(await answerOf(operation, { namespace: THEIRS, params: absentParams })).toEqual(theirs);
    // What is really absent, where one may look.
    if (makes !== true && platform !== true) expect(await answerOf(operation, { params: absentParams })).toEqual(theirs);

    expect(await state()).toEqual(before);
    expect(api.platform.calls.filter((call) => call.includes(THEIRS) || call.includes(NOBODY))).toEqual([]);
    expect(api.changedSecrets).toEqual([]);
  });

  it.each(withNamespace.map(({ path }) => path).filter((path, index, all) => all.indexOf(path) === index))(
    '%s, with any verb',
    async (path) => {
      const operation = withNamespace.find((one) => one.path === path)!;
      const before = await state();
      for (const method of VERBS) {
        const { params = () => ({}) } = caseOf(operation.id);
        const theirs = await answerOf(operation, { method, namespace: THEIRS, params: params() });
        expect({ method, answer: await answerOf(operation, { method, namespace: NOBODY, params: params() }) }).toEqual({
          method,
          answer: theirs,
        });
      }
      expect(await state()).toEqual(before);
    },
  );

  it.each(['%74heirs', 'thei%72s', '%74%68%65%69%72%73'])('also where its name is written %s', async (name) => {
    const [theirs, mineToo] = await Promise.all(
      [name, name.replace('%74heirs', 'm%79self')].map((namespace) =>
        api.call({ path: `/v1/namespaces/${namespace}/functions/hello`, token: mine }),
      ),
    );
    expect(theirs!.problem.code).toBe('function-not-found');
    expect(mineToo!.status).toBe(name === '%74heirs' ? 200 : 404);
    expect(api.platform.calls.filter((call) => call.includes(THEIRS))).toEqual([]);
  });

  it('on the routes of the platform too: status says nothing of others, whoever asks without all namespaces', async () => {
    const operations = OPERATIONS.filter(({ path, id }) => caseOf(id).platform === true && !path.includes('{namespace}'));
    const codes = await Promise.all(operations.map(async (operation) => (await ask(operation)).problem.code));
    expect(codes).toEqual(operations.map(() => 'forbidden'));
    expect(api.platform.calls).toEqual([]);
  });
});

describe('lists have only what is one’s own', () => {
  const get = (path: string, token = mine) => api.call({ path, token });

  it.each(['/v1/functions', '/v1/stats', '/v1/namespaces', '/v1/tokens', '/v1/audit?limit=1000', '/v1/whoami'])('%s', async (path) => {
    const { text, status } = await get(path);
    expect(status).toBe(200);
    expect(text).toContain(MINE);
    expect(text).not.toContain(THEIRS);
    expect((await api.call({ path })).text.includes(THEIRS)).toBe(path !== '/v1/whoami');
  });

  it('stats of others are not even worked out: who has one namespace does not cost the controller what all of them do', async () => {
    const asked = () => api.platform.calls.filter((call) => call.startsWith('stats '));
    await get('/v1/stats');
    expect(asked()).toEqual([`stats ${MINE}`]);
    await get(`/v1/stats?namespace=${THEIRS}`);
    expect(asked().filter((call) => call.includes(THEIRS))).toEqual([]);
    await api.call({ path: '/v1/stats' });
    expect(asked().at(-1)).toBe('stats *');
  });

  it.each(['/v1/functions?namespace=', '/v1/stats?namespace=', '/v1/audit?namespace='])(
    '%s: of another namespace as of none',
    async (path) => {
      const [theirs, nobodys] = await Promise.all([get(`${path}${THEIRS}`), get(`${path}${NOBODY}`)]);
      expect([theirs.status, theirs.text]).toEqual([nobodys.status, nobodys.text]);
      expect(Object.values(theirs.json as object).filter(Array.isArray)).toEqual([[]]);
      expect((await get(`${path}${MINE}`)).text).toContain(MINE);
    },
  );

  it('attempts at another namespace are in the log of the platform, not in that of either tenant', async () => {
    // One who has not tried much yet: of who tries often, not every attempt is written.
    const { token, id } = await api.tokenFor([MINE], 'deploy');
    await api.json('PUT', `/v1/namespaces/${THEIRS}/secrets/KEY`, { value: 'stolen' }, { token });
    const { token: theirReader } = await api.tokenFor([THEIRS], 'read');
    const attempts = async (token?: string) => {
      const { json: found } = await api.call({ path: '/v1/audit?limit=1000', ...(token === undefined ? {} : { token }) });
      return (found as { entries: { by: { id: string }; outcome: string; namespace: string | null; detail: object }[] }).entries.filter(
        ({ by }) => by.id === id,
      );
    };
    expect(await attempts()).toMatchObject([{ outcome: 'secret-not-found', namespace: null, detail: { namespace: THEIRS } }]);
    expect(await attempts(mine)).toEqual([]);
    expect(await attempts(theirReader)).toEqual([]);
  });
});

describe("references to another tenant's objects", () => {
  const revisions = `/v1/namespaces/${MINE}/functions/hello/revisions`;
  const strip = ({ status, problem: { instance: _instance, ...problem } }: Answer) => ({ status, problem });

  /** The same with what is theirs and with what is nowhere: equal answers, nothing asked of the platform. */
  async function equal(method: string, path: string, body: (reference: string) => unknown, pair: [string, string]): Promise<Answer> {
    const [first, second] = await Promise.all(pair.map((reference) => api.json(method, path, body(reference), { token: mine })));
    const plainText = (answer: Answer, reference: string) => JSON.stringify(strip(answer)).replaceAll(reference, 'REFERENCE');
    expect(plainText(first!, pair[0])).toBe(plainText(second!, pair[1]));
    return first!;
  }

  it('a bundle in a deployment, until one has sent it oneself', async () => {
    const { digest, data } = await bundleOf({ 'index.mjs': `export default () => ${Math.random()}` });
    await api.call({
      method: 'PUT',
      path: `/v1/namespaces/${THEIRS}/bundles/${digest}`,
      headers: { 'content-type': 'application/gzip' },
      body: data,
    });
    const body = (reference: string) => ({ bundle: reference, entry: 'index.mjs', settings: {} });
    expect((await equal('POST', revisions, body, [digest, ABSENT_DIGEST])).problem.code).toBe('invalid');
    expect(api.platform.calls).toEqual([]);

    // Naming it is not having it: the bytes must come, and the answer does not tell that they were here.
    const put = (payload: Buffer) =>
      api.call({
        method: 'PUT',
        path: `/v1/namespaces/${MINE}/bundles/${digest}`,
        headers: { 'content-type': 'application/gzip' },
        body: payload,
        token: mine,
      });
    expect((await put(Buffer.alloc(0))).problem.code).toBe('invalid');
    expect((await api.json('POST', revisions, body(digest), { token: mine })).problem.code).toBe('invalid');
    expect((await put(data)).status).toBe(201);
    expect((await put(data)).status).toBe(200);
    expect((await api.json('POST', revisions, body(digest), { token: mine })).status).toBe(201);
  });

  it('an image in a deployment', async () => {
    const image = `sha256:${'2'.repeat(64)}`;
    await api.store.addArtifact(THEIRS, 'image', image, 1);
    const body = (reference: string) => ({ bundle: there.digest, entry: 'index.mjs', image: reference, settings: { runtime: 'image' } });
    expect((await equal('POST', revisions, body, [image, ABSENT_DIGEST])).problem.errors).toMatchObject([{ pointer: '/image' }]);
    expect(api.platform.calls).toEqual([]);
  });

  it('an image that the engine has for another, by its tag', async () => {
    const pull = (reference: string) => api.json('POST', `/v1/namespaces/${MINE}/images/pull`, { reference }, { token: mine });
    const [theirs, nowhere] = [await pull('theirs:latest'), await pull('nobody:latest')];
    expect(theirs.problem.detail.replace('theirs', 'nobody')).toBe(nowhere.problem.detail);
    expect([theirs.problem.code, nowhere.problem.code]).toEqual(['image-not-found', 'image-not-found']);
  });

  it('what this host can reach, by way of the engine that pulls', async () => {
    const pull = (reference: string) => api.json('POST', `/v1/namespaces/${MINE}/images/pull`, { reference }, { token: mine });
    for (const reference of ['127.0.0.1:2375/x', 'localhost/x', '169.254.169.254/latest', 'registry.inside/x'])
      expect((await pull(reference)).problem.code).toBe('forbidden');
  });

  it("a revision's number in traffic", async () => {
    const deploy = { bundle: there.digest, entry: 'index.mjs', settings: {} };
    await api.json('POST', `/v1/namespaces/${THEIRS}/functions/hello/revisions`, deploy);
    const body = (number: string) => ({ traffic: [{ revision: Number(number), percent: 100 }] });
    const answer = await equal('PUT', `/v1/namespaces/${MINE}/functions/hello/traffic`, body, ['2', '9']);
    expect(answer.problem.code).toBe('revision-not-found');
  });

  it('a namespace in a token', async () => {
    for (const list of [(one: string) => [one], (one: string) => [MINE, one]]) {
      const body = (reference: string) => ({ name: 'x', scopes: ['read'], namespaces: list(reference) });
      expect((await equal('POST', '/v1/tokens', body, [THEIRS, NOBODY])).problem.code).toBe('forbidden');
    }
    const all = await api.json('POST', '/v1/tokens', { name: 'x', scopes: ['read'], namespaces: '*' }, { token: mine });
    expect(all.problem.code).toBe('forbidden');
  });

  it('a token', async () => {
    const revoke = (id: string) => api.call({ method: 'DELETE', path: `/v1/tokens/${id}`, token: mine });
    const { id: all } = await api.tokenFor('*', 'read');
    const { id: both } = await api.tokenFor([MINE, THEIRS], 'read');
    const absent = JSON.stringify(strip(await revoke('t-zzzzzzzzzzzz'))).replaceAll('t-zzzzzzzzzzzz', 'ID');
    for (const id of [theirTokenId, all, both]) expect(JSON.stringify(strip(await revoke(id))).replaceAll(id, 'ID')).toBe(absent);
    expect((await api.store.listTokens()).filter(({ revokedAt }) => revokedAt !== null)).toEqual([]);
    expect((await revoke(there.token)).status).toBe(200);
  });
});

describe('scopes', () => {
  const SCOPES: Scope[] = ['read', 'invoke', 'deploy', 'admin'];
  const MAY: Record<Scope, Scope[]> = {
    read: ['read', 'deploy', 'admin'],
    invoke: ['invoke', 'admin'],
    deploy: ['deploy', 'admin'],
    admin: ['admin'],
  };
  const tokens = new Map<string, string>();
  beforeAll(async () => {
    for (const scope of SCOPES) {
      tokens.set(scope, (await api.tokenFor([MINE], scope)).token);
      tokens.set(`*${scope}`, (await api.tokenFor('*', scope)).token);
    }
  });

  it.each(OPERATIONS.flatMap((operation) => SCOPES.map((scope) => ({ ...operation, scope }))))('$id with $scope', async (operation) => {
    const { scope, ...asked } = operation;
    const { scope: needed, platform, status = 200 } = caseOf(asked.id);
    const may = needed === null || MAY[needed].includes(scope);
    const answer = await ask(asked, { token: tokens.get(platform === true ? `*${scope}` : scope)! });
    if (may) {
      expect(answer).toMatchObject({ status });
    } else {
      expect(answer.status).toBe(403);
      if (asked.method !== 'HEAD') expect(answer.problem.code).toBe('forbidden');
      expect(api.platform.calls).toEqual([]);
    }
  });

  it('a body is looked at last: who may not is told so, whatever it holds', async () => {
    const path = `/v1/namespaces/${MINE}/functions/hello/revisions`;
    const send = (token: string) => api.call({ method: 'POST', path, headers: { 'content-type': 'text/nonsense' }, body: '{', token });
    expect((await send(tokens.get('read')!)).problem.code).toBe('forbidden');
    expect((await send(tokens.get('deploy')!)).problem.code).toBe('unsupported-media-type');
    const theirs = await api.call({ method: 'POST', path: path.replace(MINE, THEIRS), body: '{', token: tokens.get('read')! });
    expect(theirs.problem.code).toBe('namespace-not-found');
  });

  it('a name that none can have is told first: that is no secret', async () => {
    const answer = await api.call({ path: `/v1/namespaces/${THEIRS}/functions/UPPER`, token: mine });
    expect(answer.problem).toMatchObject({ status: 422, errors: [{ pointer: 'path/name' }] });
  });
});
