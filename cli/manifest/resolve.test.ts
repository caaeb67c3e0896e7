import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { temporaryFolder } from '../../test/helpers/cli.ts';
import { CliError } from '../errors.ts';
import { readManifest } from './file.ts';
import type { Layer } from './merge.ts';
import type { ResolveOptions } from './resolve.ts';
import { resolveManifest } from './resolve.ts';
import { similar } from './similar.ts';

function resolved(text: string, options: Partial<ResolveOptions> = {}) {
  const folder = temporaryFolder(onTestFinished);
  writeFileSync(join(folder, 'fn.yaml'), text);
  return resolveManifest(readManifest('fn.yaml', folder), { variables: {}, ...options });
}

function faults(text: string, options: Partial<ResolveOptions> = {}): string[] {
  try {
    resolved(text, options);
  } catch (error) {
    if (!(error instanceof CliError)) throw error;
    expect(error.exitCode).toBe(2);
    return error.details.length === 0 ? [error.message] : error.details.map((detail) => detail.split('\n')[0]!);
  }
  throw new Error('nothing was refused');
}

const said = (values: Layer['values'], name: string): Layer => ({ values, origin: () => ({ said: name }) });

const SHOP = `
namespace: shop
defaults: { memory: 64, timeout: 5, env: { A: defaults, B: defaults }, secrets: [ONE], rateLimit: 5 }
functions:
  api:
    entry: ./api
    memory: 128
    cpu: 2
    env: { B: function, C: function }
    routes: [/api/*]
    secrets: [TWO]
  web: { entry: ./web.ts }
environments:
  staging:
    namespace: shop-staging
    defaults: { memory: 256, env: { D: environment } }
    env: { C: environment }
    functions:
      api: { cpu: 0.5, rateLimit: null, env: { D: both } }
  empty: {}
`;

describe('what is said in several places', () => {
  it('is merged: the function over the defaults, maps by name, lists as a whole', () => {
    const [api, web] = resolved(SHOP);
    expect(api).toMatchObject({ namespace: 'shop', name: 'api', path: expect.stringMatching(/\/api$/) });
    expect(api!.settings).toEqual({
      memoryMib: 128,
      cpu: 2,
      timeoutSeconds: 5,
      env: { A: 'defaults', B: 'function', C: 'function' },
      secrets: ['TWO'],
    });
    expect(api!.access).toMatchObject({ routes: [{ path: '/api/*' }], auth: { type: 'public' }, rateLimit: { requestsPerSecond: 5 } });
    expect(web!.settings).toMatchObject({ memoryMib: 64, secrets: ['ONE'] });
  });

  it('an environment wins over the function, and its word on the function over its own defaults', () => {
    const [api, web] = resolved(SHOP, { environment: 'staging' });
    expect(api).toMatchObject({ namespace: 'shop-staging', access: { rateLimit: null } });
    expect(api!.settings).toMatchObject({ memoryMib: 256, cpu: 0.5, timeoutSeconds: 5 });
    expect(api!.settings.env).toEqual({ A: 'defaults', B: 'function', C: 'environment', D: 'both' });
    expect(web!.settings).toMatchObject({ memoryMib: 256, env: { A: 'defaults', B: 'defaults', C: 'environment', D: 'environment' } });
    expect(resolved(SHOP, { environment: 'empty' })[0]).toMatchObject({ namespace: 'shop', settings: { memoryMib: 128 } });
  });

  it('what was typed wins over all of it', () => {
    const overrides = [
      said({ memory: 512, cpu: 1, env: { C: 'variable' } }, 'FN_MEMORY'),
      said({ memory: 1024, secrets: ['X'] }, '--memory'),
    ];
    const [api] = resolved(SHOP, { environment: 'staging', overrides, namespace: 'mine', names: ['api'] });
    expect(api).toMatchObject({
      namespace: 'mine',
      settings: { memoryMib: 1024, cpu: 1, secrets: ['X'], env: { C: 'variable', D: 'both' } },
    });
  });

  it('names choose', () => {
    expect(resolved(SHOP, { names: ['web', 'web'] }).map(({ name }) => name)).toEqual(['web']);
    expect(faults(SHOP, { names: ['wbe'] })).toEqual(['fn.yaml has no function wbe (did you mean web?)']);
    expect(faults(SHOP, { environment: 'stagin' })).toEqual(['fn.yaml has no environment stagin (did you mean staging?)']);
  });
});

describe('${env:NAME}', () => {
  const text = 'functions:\n  a:\n    entry: x\n    env: { A: "1${env:ONE}2", B: "$${env:ONE} ${HOME}", C: plain }\n';

  it('is the variable of who runs fn; $${ is a plain ${', () => {
    expect(resolved(text, { variables: { ONE: 'x$&' } })[0]!.settings.env).toEqual({ A: '1x$&2', B: '${env:ONE} ${HOME}', C: 'plain' });
  });

  it('that is not set is told with its place', () => {
    expect(faults(text)).toEqual(['fn.yaml:4:15: env.A: the variable ONE is not set where fn runs; $${ is a plain ${']);
    expect(faults('functions: { a: { entry: x, env: { A: "${env:}" } } }\n')[0]).toContain('1:39: env.A: ${env:} names no variable');
  });

  it('of another environment is not asked for', () => {
    const other = 'functions: { a: { entry: x } }\nenvironments: { prod: { env: { KEY: "${env:PROD_KEY}" } } }\n';
    expect(resolved(other)[0]!.settings.env).toBeUndefined();
    expect(faults(other, { environment: 'prod' })[0]).toContain('fn.yaml:2:37: env.KEY: the variable PROD_KEY is not set');
  });

  it('in what was typed is text', () => {
    const overrides = [said({ env: { A: '${env:ONE}' } }, '--env')];
    expect(resolved('functions: { a: { entry: x } }\n', { overrides })[0]!.settings.env).toEqual({ A: '${env:ONE}' });
  });
});

describe('functions that take requests from each other', () => {
  it('are told before any is deployed, with the place of each route', () => {
    const text = `functions:
  a: { entry: x, routes: [/a/x, "/users/:id"] }
  b: { entry: x, routes: [/fine, "/users/:name", "/users/:id/more"] }
  c: { entry: x, routes: [/a/other] }
`;
    expect(faults(text)).toEqual([
      'fn.yaml:3:34: functions.b.routes.1: /users/:name is a route of a already',
      "fn.yaml:4:27: functions.c.routes.0: /a and all below it is the function a's already",
    ]);
    expect(resolved(text, { names: ['b'] })).toHaveLength(1);
    expect(faults(text.replace('functions:', 'namespace: team\nfunctions:'))).toHaveLength(1);
    const methods = 'functions:\n  a: { entry: x, routes: ["GET /x"] }\n  b: { entry: x, routes: ["POST /x"] }\n';
    expect(resolved(methods)).toHaveLength(2);
  });

  it('are told where --route says so, too', () => {
    const text = 'functions:\n  a: { entry: x }\n  b: { entry: x }\n';
    const overrides = [said({ routes: [{ path: '/x' }] }, '--route')];
    expect(faults(text, { overrides })).toEqual(['fn.yaml:3:3: functions.b.routes.0: /x is a route of a already']);
  });
});

describe('what does not go together', () => {
  it.each([
    ['functions:\n  a: { memory: 64 }\n', {}, '2:3: functions.a: entry is missing'],
    ['functions:\n  a: { entry: x, image: y }\n', {}, '2:15: functions.a: it has both entry and image'],
    ['functions:\n  a: { image: y, runtime: node }\n', {}, '2:15: functions.a: image goes with runtime: image, not with node'],
    ['functions:\n  a: { runtime: image }\n', {}, '2:17: functions.a: runtime: image needs image'],
    ['defaults: { min: 3 }\nfunctions:\n  a: { entry: x, max: 2 }\n', {}, '1:18: functions.a.min: min must not be greater than max'],
    ['functions:\n  a: { entry: x, env: { S: 1 }, secrets: [S] }\n', {}, '2:42: functions.a.secrets: a name is both in env and in secrets'],
    [
      'functions:\n  a: { entry: x, max: 2 }\n',
      { overrides: [said({ min: 3 }, '--min')] },
      '2:3: functions.a.min: min must not be greater than max (--min)',
    ],
    [
      'functions:\n  api: { entry: x }\nenvironments: { e: { functions: { apo: { cpu: 1 } } } }\n',
      {},
      '3:35: environments.e.functions.apo: there is no such function under functions (did you mean api?)',
    ],
  ])('%j %j', (text, options, expected) => expect(faults(text, options)[0]).toContain(`fn.yaml:${expected}`));

  it('image alone says the runtime', () => {
    expect(resolved('functions: { a: { image: nginx:1 } }\n')[0]).toMatchObject({
      path: null,
      image: 'nginx:1',
      settings: { runtime: 'image' },
    });
  });
});

describe('similar', () => {
  it.each([
    ['keep-alive', 'keepAlive'],
    ['keep_alive', 'keepAlive'],
    ['mem', 'memory'],
    ['memoryMib', 'memory'],
    ['tiemout', 'timeout'],
    ['environment', 'env'],
    ['x', null],
    ['', null],
  ])('%s → %s', (word, expected) => expect(similar(word, ['memory', 'timeout', 'keepAlive', 'env', 'min', 'max'])).toBe(expected));
});
