import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { temporaryFolder } from '../../test/helpers/cli.ts';
import { CliError } from '../errors.ts';
import { findManifest, readManifest } from './file.ts';

/** Reads the text as fn.yaml of a folder of its own. */
function read(text: string | Buffer) {
  const folder = temporaryFolder(onTestFinished);
  writeFileSync(join(folder, 'fn.yaml'), text);
  writeFileSync(join(folder, 'hello.ts'), '');
  return readManifest('fn.yaml', folder);
}

/** The lines `fn.yaml:LINE:COLUMN: …` of what is wrong, but for the sources: they are not there. */
function faults(text: string | Buffer): string[] {
  try {
    read(text);
  } catch (error) {
    if (!(error instanceof CliError)) throw error;
    expect(error.exitCode).toBe(2);
    return error.details.length === 0
      ? [error.message]
      : error.details.map((detail) => detail.split('\n')[0]!).filter((line) => !line.includes(': there is no file or folder '));
  }
  throw new Error('nothing was refused');
}

const one = (field: string): string => `functions:\n  hello:\n    entry: ./hello.ts\n    ${field}\n`;

describe('a manifest', () => {
  it('gives what it says in the units of the contract', () => {
    const { manifest } = read(`
name: shop
namespace: team
defaults: { memory: 256Mi, timeout: 5m }
functions:
  hello:
    entry: ./hello.ts
    memory: 1Gi
    cpu: 500m
    timeout: 30
    keepAlive: 1.5 m
    maxStream: 2h
    concurrency: null
    egress: 10.1.2.0/24
    env: { VERSION: 1.10, HEX: 0x10, ON: true, TEXT: "a b" }
    secrets: [TOKEN]
    routes: ['GET,post api.example.com/users/:id', /static/*, { path: /api/*, stripPrefix: /api }]
    auth: { jwt: { issuer: https://id.example.com, audience: shop } }
    cors: [https://app.example.com]
    rateLimit: 600/m
    sticky: header:X-User
    logs: { maxBytes: 1Mi, maxAge: 30d }
`);
    expect(manifest.functions.hello).toEqual({
      entry: './hello.ts',
      memory: 1024,
      cpu: 0.5,
      timeout: 30,
      keepAlive: 90,
      maxStream: 7200,
      concurrency: null,
      egress: ['10.1.2.0/24'],
      // As they were written: a version is no number.
      env: { VERSION: '1.10', HEX: '0x10', ON: 'true', TEXT: 'a b' },
      secrets: ['TOKEN'],
      routes: [
        { host: 'api.example.com', path: '/users/:id', methods: ['GET', 'POST'] },
        { path: '/static/*' },
        { path: '/api/*', stripPrefix: '/api' },
      ],
      auth: { type: 'jwt', issuer: 'https://id.example.com', audience: 'shop', claims: {} },
      cors: {
        origins: ['https://app.example.com'],
        methods: ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'],
        headers: ['*'],
        exposeHeaders: [],
        credentials: false,
        maxAgeSeconds: 600,
      },
      rateLimit: { requestsPerSecond: 10, by: 'function' },
      sticky: { by: 'header', name: 'x-user' },
      logs: { maxBytes: 1_048_576, maxAgeSeconds: 2_592_000 },
    });
    expect(manifest.defaults).toEqual({ memory: 256, timeout: 300 });
  });

  it('may use anchors and aliases, and a function called env or __proto__-like names stay what they are', () => {
    const { manifest } = read(`
functions:
  env: &base { entry: ./env.ts, memory: 64 }
  other: *base
`);
    expect(manifest.functions).toEqual({ env: { entry: './env.ts', memory: 64 }, other: { entry: './env.ts', memory: 64 } });
  });

  it('that is wrong is shown with its line and a mark under what is meant, all at once', () => {
    const text = 'functions:\n  hello:\n    entry: ./hello.ts\n    memory: 12\n  api:\n    entry: ./hello.ts\n    tiemout: 5s\n';
    expect(() => read(text)).toThrowError(
      expect.objectContaining({
        message: 'fn.yaml is not valid: 2 errors',
        exitCode: 2,
        details: [
          'fn.yaml:4:13: functions.hello.memory: must be whole MiB from 64 to 8192, such as 256, 256Mi or 1Gi\n  4 │     memory: 12\n    │             ^^',
          'fn.yaml:7:5: functions.api.tiemout: there is no such field (did you mean timeout?)\n  7 │     tiemout: 5s\n    │     ^^^^^^^',
        ],
      }),
    );
  });
});

it('says all at once, also what only the whole of a file tells, and nothing that only follows from it', () => {
  const text = `functions:
  here: { entry: ./fn.yaml.ts, memory: 1, secrets: [A, A] }
  gone: { entry: ./nope.ts, timeout: soon }
  ruby: { runtime: ruby, entry: ./fn.yaml.ts }
  typo: { entri: ./nope.ts }
  kind: { entry: 5, cpu: 1 }
  none: { cpu: 99 }
  whole: 7
environments:
  e: { functions: { zzz: { cpu: 1 }, whole: { cpu: 1 } } }
`;
  const folder = temporaryFolder(onTestFinished);
  writeFileSync(join(folder, 'fn.yaml.ts'), '');
  writeFileSync(join(folder, 'fn.yaml'), text);
  let told: string[] = [];
  try {
    readManifest('fn.yaml', folder);
  } catch (error) {
    if (error instanceof CliError) told = error.details.map((detail) => detail.split('\n')[0]!.replace(folder, 'FOLDER'));
  }
  expect(told).toEqual([
    expect.stringMatching(/^fn\.yaml:2:\d+: functions\.here\.memory: must be/),
    expect.stringMatching(/^fn\.yaml:2:\d+: functions\.here\.secrets: a secret is named twice$/),
    expect.stringMatching(/^fn\.yaml:3:\d+: functions\.gone: there is no file or folder FOLDER\/nope\.ts$/),
    expect.stringMatching(/^fn\.yaml:3:\d+: functions\.gone\.timeout: must be/),
    expect.stringMatching(/^fn\.yaml:4:\d+: functions\.ruby: fn cannot bundle for the runtime ruby; it can for: node, python/),
    expect.stringMatching(/^fn\.yaml:5:\d+: functions\.typo\.entri: there is no such field \(did you mean entry\?\)$/),
    expect.stringMatching(/^fn\.yaml:6:\d+: functions\.kind\.entry: must be text$/),
    expect.stringMatching(/^fn\.yaml:7:\d+: functions\.none: entry is missing/),
    expect.stringMatching(/^fn\.yaml:7:\d+: functions\.none\.cpu: must be/),
    expect.stringMatching(/^fn\.yaml:8:\d+: functions\.whole: must be a map/),
    expect.stringMatching(/^fn\.yaml:10:\d+: environments\.e\.functions\.zzz: there is no such function/),
  ]);
});

describe('fields that are wrong', () => {
  it.each([
    ['memory: 63', '4:13: functions.hello.memory: must be whole MiB from 64 to 8192'],
    ['memory: -1', '4:13: functions.hello.memory: must be whole MiB'],
    ['memory: .nan', '4:13: functions.hello.memory: must be whole MiB'],
    ['memory: 1e18', '4:13: functions.hello.memory: must be whole MiB'],
    ['memory: 100.5Mi', '4:13: functions.hello.memory: must be whole MiB'],
    ['memory: 64 Mb', '4:13: functions.hello.memory: must be whole MiB'],
    ['memory: true', '4:13: functions.hello.memory: must be whole MiB'],
    ['cpu: 65', '4:10: functions.hello.cpu: must be cores from 0.05 to 64'],
    ['timeout: 0', '4:14: functions.hello.timeout: must be a time from 0.1s to 1h'],
    ['auth: { jwt: { issuer: x } }', '4:13: functions.hello.auth.jwt.audience: must be who the token is for: text, or a list of up to 16'],
    ['timeout: 2h', '4:14: functions.hello.timeout: must be a time from 0.1s to 1h, such as 30 (seconds), 30s, 5m or 1h'],
    ['keepAlive: soon', '4:16: functions.hello.keepAlive: must be auto, or a time from 0 to 24h, such as 30 (seconds), 30s, 5m or 1h'],
    ['keepAlive: 25h', '4:16: functions.hello.keepAlive: must be auto, or a time from 0 to 24h'],
    ['keepAlive: null', '4:16: functions.hello.keepAlive: must be auto, or a time from 0 to 24h'],
    ['timeout: soon', '4:14: functions.hello.timeout: must be a time'],
    ['concurrency: 0', '4:18: functions.hello.concurrency: must be a whole number from 1 to 1000, or null'],
    ['min: 1.5', '4:10: functions.hello.min: must be a whole number from 0 to 1000'],
    ['egress: intrenet', '4:13: functions.hello.egress: must be none, internet, or hosts and IPv4 networks'],
    [
      'egress: ["*.example.com"]',
      '4:14: functions.hello.egress.0: must be none, internet, or hosts and IPv4 networks such as api.example.com and 10.1.2.0/24: each host is listed by its own name: there is no *',
    ],
    ['egress: [none, 300.0.0.1]', '4:14: functions.hello.egress.0: must be none, internet, or hosts and IPv4 networks'],
    ['runtime: Node', '4:14: functions.hello.runtime: runtime must be one that `fn runtimes list` shows, such as node, python,'],
    ['env: { FN_HOME: x }', '4:12: functions.hello.env.FN_HOME: names that begin with FN_ belong to the platform'],
    ['env: { A: }', '4:12: functions.hello.env.A: must be text, a number, true or false'],
    ['env: [A=b]', '4:10: functions.hello.env: must be a map of names'],
    ['secrets: [a-b]', '4:15: functions.hello.secrets.0: a secret name is letters, digits and _'],
    ['routes: [GET users]', '4:14: functions.hello.routes.0: must be such as'],
    ['routes: [FETCH /users]', '4:14: functions.hello.routes.0: method: Invalid option'],
    ['routes: [/a/../b]', '4:14: functions.hello.routes.0: path: must not hold . or .. as a segment'],
    ['routes: [API.example.com/x]', '4:14: functions.hello.routes.0: host: must be a host name in lower case'],
    ['routes: [{ path: users }]', '4:22: functions.hello.routes.0.path: must be a path such as'],
    ['routes: [{ paths: /x }]', '4:16: functions.hello.routes.0.paths: there is no such field (did you mean path?)'],
    ['auth: tokens', '4:11: functions.hello.auth: must be public, token, or jwt: {issuer, audience}'],
    ['auth: { jwt: { isuer: x, audience: y } }', '4:13: functions.hello.auth.jwt.issuer: is missing'],
    ['cors: { origins: ["*"], credentials: true }', '4:42: functions.hello.cors.credentials: credentials cannot go with the origin *'],
    ['cors: [example.com]', '4:12: functions.hello.cors.0: must be * or an origin such as'],
    ['rateLimit: 0', '4:16: functions.hello.rateLimit: must be requests per second'],
    ['rateLimit: { rps: 3 }', '4:5: functions.hello.rateLimit.requestsPerSecond: is missing'],
    ['sticky: cookies', '4:13: functions.hello.sticky: must be cookie, header:NAME'],
    ['logs: { maxAge: 1s }', '4:21: functions.hello.logs.maxAge: must be a time from 60s to 365d'],
    ['trigers: []', '4:5: functions.hello.trigers: there is no such field (did you mean triggers?)'],
    ['keep-alive: 5', '4:5: functions.hello.keep-alive: there is no such field (did you mean keepAlive?)'],
    ['mem: 5', '4:5: functions.hello.mem: there is no such field (did you mean memory?)'],
    ['zzz: 5', '4:5: functions.hello.zzz: there is no such field'],
    ['constructor: 5', '4:5: functions.hello.constructor: there is no such field'],
    ['__proto__: 5', '4:5: __proto__ cannot be a key'],
    ['<<: { memory: 64 }', '4:5: merge keys (<<) are not a part of YAML 1.2'],
  ])('%s', (field, expected) => expect(faults(one(field))[0]).toContain(`fn.yaml:${expected}`));
});

describe('files that are wrong', () => {
  it.each([
    ['nothing', '', '1:1: this file is empty'],
    ['only a comment', '# nothing\n', '1:1: this file is empty'],
    ['text', 'hello\n', '1:1: this file: must be a map of fields'],
    ['a list', '- hello\n', '1:1: this file: must be a map of fields'],
    ['no functions', 'name: x\n', '1:1: functions: is missing'],
    ['functions of nothing', 'functions: {}\n', '1:1: functions: names no function'],
    ['a function of nothing', 'functions:\n  hello:\n', '2:3: functions.hello: must be a map of fields'],
    [
      'a name that no function can have',
      'functions:\n  Hello: { entry: x }\n',
      '2:3: functions.Hello: function name must be 1–63 characters',
    ],
    ['a reserved name', 'functions:\n  constructor: { entry: x }\n', '2:3: functions.constructor: this function name is reserved'],
    [
      'an entry among the defaults',
      'defaults:\n  entry: x\nfunctions: { a: { entry: x } }\n',
      '2:3: defaults.entry: there is no such field',
    ],
    ['a key twice', 'functions:\n  a: { entry: x }\n  a: { entry: y }\n', '3:3: this key is here a second time'],
    ['a key that is no text', 'functions:\n  ? [a]\n  : { entry: x }\n', '2:5: a key must be text'],
    ['a tab', 'functions:\n\ta: { entry: x }\n', '2:1: Tabs are not allowed as indentation'],
    ['a list without an end', 'functions: [\n', '2:1: Flow sequence in block collection'],
    ['two documents', 'functions: { a: { entry: x } }\n---\nname: x\n', '2:1: only one document (---) may be in this file'],
    ['a tag', 'functions: { a: { entry: !!js/function x } }\n', '1:26: Unresolved tag'],
    ['an anchor that is not there', 'functions: { a: *b }\n', '1:17: there is no anchor &b before this'],
    ['a schedule without quotes', 'functions:\n  a: { triggers: [{ cron: * 7 * * * }] }\n', '2:27: text that begins with * or @'],
    ['CRLF', 'functions:\r\n  a:\r\n    entry: x\r\n    memory: 1\r\n', '4:13: functions.a.memory: must be whole MiB'],
    ['a character outside of the first plane before it', 'functions: { a: { entry: "😀", memory: 1 } }\n', '1:40: functions.a.memory'],
  ])('%s', (_what, text, expected) => expect(faults(text)[0]).toContain(`fn.yaml:${expected}`));

  it('a schedule without quotes is told once a line', () => {
    expect(faults('a: { cron: */5 * * * * }\nb: @daily\n')).toHaveLength(2);
  });

  it('a bomb of aliases is refused at once', () => {
    const levels = Array.from(
      { length: 9 },
      (_, index) =>
        `  l${index + 1}: &l${index + 1} [${Array(9)
          .fill(index === 0 ? 'x' : `*l${index}`)
          .join(', ')}]`,
    );
    expect(faults(`defaults:\n${levels.join('\n')}\nfunctions: { a: { entry: *l9 } }\n`)[0]).toContain(
      'more than 200 aliases are followed',
    );
  });

  it('a bomb of brackets is refused at once', () => {
    expect(faults(`functions: ${'['.repeat(100_000)}`)[0]).toMatch(/nested/);
    expect(faults(`functions: ${'['.repeat(50)}${']'.repeat(50)}`)[0]).toContain('nested more than 20 levels deep');
  });

  it('too large, not UTF-8, or not there: said with its path', () => {
    expect(faults(`#${'x'.repeat(300_000)}`)[0]).toMatch(/fn\.yaml is too large: 300\.0 kB; the limit is 262\.1 kB/);
    expect(faults(Buffer.from([0xff, 0xfe, 0x00]))[0]).toMatch(/fn\.yaml is not UTF-8 text/);
    expect(() => readManifest('fn.yaml', '/nowhere')).toThrow('there is no file /nowhere/fn.yaml');
  });

  it('control characters of the file do not reach the terminal', () => {
    const [first] = faults('functions: { a: { entry: x, "m\\e[31m": 1 } }\n');
    expect(first).toContain('m\\x1b[31m');
  });
});

describe('finding it', () => {
  it('looks upwards as far as the repository goes', () => {
    const folder = temporaryFolder(onTestFinished);
    mkdirSync(join(folder, 'repo/.git'), { recursive: true });
    mkdirSync(join(folder, 'repo/src/api'), { recursive: true });
    writeFileSync(join(folder, 'fn.yaml'), '');
    expect(findManifest(join(folder, 'repo/src/api'))).toBe(null);
    writeFileSync(join(folder, 'repo/fn.yml'), '');
    expect(findManifest(join(folder, 'repo/src/api'))).toBe(join(folder, 'repo/fn.yml'));
    writeFileSync(join(folder, 'repo/src/fn.yaml'), '');
    expect(findManifest(join(folder, 'repo/src/api'))).toBe(join(folder, 'repo/src/fn.yaml'));
  });

  it('looks only here where there is no repository', () => {
    const folder = temporaryFolder(onTestFinished);
    mkdirSync(join(folder, 'src'));
    writeFileSync(join(folder, 'fn.yaml'), '');
    expect([findManifest(folder), findManifest(join(folder, 'src'))]).toEqual([join(folder, 'fn.yaml'), null]);
  });

  it('does not choose between two', () => {
    const folder = temporaryFolder(onTestFinished);
    for (const name of ['fn.yaml', 'fn.yml']) writeFileSync(join(folder, name), '');
    expect(() => findManifest(folder)).toThrow('has both fn.yaml and fn.yml');
  });
});
