/** The list of bad input, and what of it is told by bytes alone. The rest is in bad-input.test.ts. */
import type { ErrorCode } from '#contract/errors.ts';

/** The list, and the variants of each line. */
export const LINES = {
  framing: ['both lengths', 'two lengths', 'signed length', 'folding', 'bare LF', 'bare CR', 'NUL'],
  host: ['two hosts', 'another authority'],
  CONNECT: ['CONNECT'],
  coding: ['gzip, chunked'],
  versions: ['HTTP/1.0 with a coding', 'HTTP/0.9'],
  headers: ['over 16 KiB', 'too many'],
  URL: ['over 8 KiB'],
  paths: ['\\', '#', '%00', '%2e%2e', '%2F', '//'],
  'body over the limit': ['declared', 'chunked'],
  dribble: ['head', 'body'],
  JSON: ['malformed', 'too deep', 'another type', 'unknown field', '__proto__'],
  token: ['none', 'bad', 'expired', 'another scheme'],
  rights: ['missing scope', "another tenant's"],
  values: ['../x', 'upper case', 'over 63', 'constructor', 'memory -1', 'memory NaN', 'memory 1e18', 'timeout 0', 'over quota'],
  preconditions: ['stale If-Match', 'Idempotency-Key'],
  bundle: ['..', 'link', 'device', 'bomb', 'truncated', 'wrong digest'],
  unknown: ['runtime', 'function', 'method'],
  full: ['concurrency', 'start queue'],
  function: ['CRLF header', 'wrong length', 'crash', 'out of memory', 'overrun'],
  enqueue: ['store down', 'queue full', 'too large'],
  trigger: ['cron', 'time zone', 'private address'],
  CLI: ['bad YAML', 'unreachable', 'not authorised', 'Ctrl-C'],
} as const;
type Line = keyof typeof LINES;

/** The variants that have a case. */
export const covered = new Set<string>();
/** The name of a case, noted as one of a variant. */
export function of<L extends Line>(line: L, variant: (typeof LINES)[L][number], more = ''): string {
  covered.add(`${line}: ${variant}`);
  return `${line}: ${variant}${more === '' ? '' : `, ${more}`}`;
}

/** Bytes, and the answer that they must get. */
export interface Case {
  name: string;
  bytes: string | Buffer;
  status: number;
  code: ErrorCode;
  closes?: boolean;
  /** On the gateway, the API, or both. `PATH` in the bytes becomes a path that each has. */
  on?: 'gateway' | 'api';
  pointer?: string;
  /** Without the token: it must be refused before anybody asks for it. */
  bare?: boolean;
}

const HEAD = 'PATH HTTP/1.1\r\nHost: a\r\n';
const GET = `GET ${HEAD}`;
const POST = `POST ${HEAD}Content-Type: application/json\r\n`;
const CHUNKED = 'Transfer-Encoding: chunked\r\n';
const BAD = { status: 400, code: 'bad-request', closes: true, bare: true } as const;

export const HTTP: Case[] = [
  { name: of('framing', 'both lengths'), bytes: `${POST}Content-Length: 2\r\n${CHUNKED}\r\n0\r\n\r\n`, ...BAD },
  { name: of('framing', 'both lengths', 'the other way round'), bytes: `${POST}${CHUNKED}Content-Length: 2\r\n\r\n0\r\n\r\n`, ...BAD },
  { name: of('framing', 'two lengths'), bytes: `${POST}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}`, ...BAD },
  { name: of('framing', 'two lengths', 'that agree'), bytes: `${POST}Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}`, ...BAD },
  { name: of('framing', 'signed length'), bytes: `${POST}Content-Length: +2\r\n\r\n{}`, ...BAD },
  { name: of('framing', 'signed length', 'negative'), bytes: `${POST}Content-Length: -2\r\n\r\n{}`, ...BAD },
  { name: of('framing', 'folding'), bytes: `${GET}X: a\r\n b\r\n\r\n`, ...BAD },
  { name: of('framing', 'bare LF'), bytes: 'GET PATH HTTP/1.1\nHost: a\n\n', ...BAD },
  { name: of('framing', 'bare LF', 'in a header'), bytes: `${GET}X: a\nY: b\r\n\r\n`, ...BAD },
  { name: of('framing', 'bare CR'), bytes: `${GET}X: a\rb\r\n\r\n`, ...BAD },
  { name: of('framing', 'NUL'), bytes: `${GET}X: a\0b\r\n\r\n`, ...BAD },
  { name: of('framing', 'NUL', 'in the URL'), bytes: 'GET PATH\0 HTTP/1.1\r\nHost: a\r\n\r\n', ...BAD },
  { name: of('host', 'two hosts'), bytes: `${GET}Host: b\r\n\r\n`, ...BAD },
  { name: of('host', 'two hosts', 'the same'), bytes: `${GET}Host: a\r\n\r\n`, ...BAD },
  { name: of('host', 'another authority'), bytes: 'GET http://bPATH HTTP/1.1\r\nHost: a\r\n\r\n', ...BAD },
  { name: of('CONNECT', 'CONNECT'), bytes: 'CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n', ...BAD, status: 405, code: 'method-not-allowed' },
  {
    name: of('coding', 'gzip, chunked'),
    bytes: `${POST}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n`,
    ...BAD,
    status: 501,
    code: 'not-implemented',
  },
  { name: of('versions', 'HTTP/1.0 with a coding'), bytes: `POST PATH HTTP/1.0\r\nHost: a\r\n${CHUNKED}\r\n0\r\n\r\n`, ...BAD },
  { name: of('versions', 'HTTP/0.9'), bytes: 'GET PATH\r\n\r\n', ...BAD },
  { name: of('headers', 'over 16 KiB'), bytes: `${GET}X: ${'a'.repeat(16_400)}\r\n\r\n`, ...BAD, status: 431, code: 'headers-too-large' },
  {
    name: of('headers', 'over 16 KiB', 'far'),
    bytes: `${GET}X: ${'a'.repeat(100_000)}\r\n\r\n`,
    ...BAD,
    status: 431,
    code: 'headers-too-large',
  },
  { name: of('headers', 'too many'), bytes: `${GET}${'X: 1\r\n'.repeat(200)}\r\n`, ...BAD, status: 431, code: 'headers-too-large' },
  {
    name: of('URL', 'over 8 KiB'),
    bytes: `GET PATH?${'a'.repeat(8_200)} HTTP/1.1\r\nHost: a\r\n\r\n`,
    ...BAD,
    status: 414,
    code: 'uri-too-long',
  },
  {
    name: of('body over the limit', 'declared'),
    bytes: `${POST}Content-Length: 2000000\r\n\r\n`,
    status: 413,
    code: 'body-too-large',
    closes: true,
  },
  {
    name: of('body over the limit', 'chunked'),
    bytes: `${POST}${CHUNKED}\r\n110000\r\n${' '.repeat(0x11_00_00)}\r\n0\r\n\r\n`,
    status: 413,
    code: 'body-too-large',
    closes: true,
  },
];

/** A request of the control API without a body. */
export const controlled = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`;
export const PATHS: Case[] = [
  [of('paths', '\\'), '/v1\\status'],
  [of('paths', '#'), '/v1/status#x'],
  [of('paths', '%00'), '/v1/status%00'],
  [of('paths', '%2e%2e'), '/v1/x/%2e%2e/status'],
  [of('paths', '%2e%2e', 'in upper case'), '/v1/x/%2E%2E/status'],
  [of('paths', '%2F'), '/v1%2Fstatus'],
  [of('paths', '//'), '//v1/status'],
].map(([name, path]) => ({ name: name!, bytes: controlled(path!), ...BAD, on: 'api' as const }));

export const HELLO = '/v1/namespaces/default/functions/hello';
/** A request of the API with a body of JSON. */
export function send(method: string, path: string, body: string, headers = ''): string {
  const type = headers.includes('Content-Type') ? '' : 'Content-Type: application/json\r\n';
  return `${method} ${path} HTTP/1.1\r\nHost: a\r\n${type}${headers}Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
}
const INVALID = { status: 422, code: 'invalid', on: 'api' } as const;
const deploy = (settings: string, more = ''): string =>
  send('POST', `${HELLO}/revisions`, `{"bundle":"sha256:${'0'.repeat(64)}","entry":"index.mjs","settings":${settings}${more}}`);
const trigger = (body: object): string => send('PUT', `${HELLO}/triggers/t`, JSON.stringify({ name: 't', ...body }));
export const webhook = (url: string): string =>
  send('PUT', `${HELLO}/access`, JSON.stringify({ auth: { type: 'jwt', issuer: 'https://a.test', jwksUrl: url } }));

export const API: Case[] = [
  { name: of('JSON', 'malformed'), bytes: send('POST', `${HELLO}/revisions`, '{"a":'), status: 400, code: 'bad-request', on: 'api' },
  {
    name: of('JSON', 'too deep'),
    bytes: send('POST', `${HELLO}/revisions`, '['.repeat(10_000)),
    status: 400,
    code: 'bad-request',
    on: 'api',
  },
  {
    name: of('JSON', 'another type'),
    bytes: send('POST', `${HELLO}/revisions`, '{}', 'Content-Type: text/plain\r\n'),
    status: 415,
    code: 'unsupported-media-type',
    on: 'api',
  },
  { name: of('JSON', 'unknown field'), bytes: deploy('{}', ',"x":1'), ...INVALID, pointer: '/x' },
  { name: of('JSON', '__proto__'), bytes: deploy('{"__proto__":{}}'), ...INVALID, pointer: '/settings/__proto__' },
  { name: of('values', 'upper case'), bytes: controlled('/v1/namespaces/default/functions/UPPER'), ...INVALID, pointer: 'path/name' },
  {
    name: of('values', 'over 63'),
    bytes: controlled(`/v1/namespaces/default/functions/${'a'.repeat(64)}`),
    ...INVALID,
    pointer: 'path/name',
  },
  {
    name: of('values', 'constructor'),
    bytes: controlled('/v1/namespaces/default/functions/constructor'),
    ...INVALID,
    pointer: 'path/name',
  },
  {
    name: of('values', '../x'),
    bytes: send('PUT', `${HELLO}/triggers/t`, '{"type":"cron","name":"../x","schedule":"* * * * *"}'),
    ...INVALID,
    pointer: '/name',
  },
  {
    name: of('values', '../x', 'as an entry'),
    bytes: send('POST', `${HELLO}/revisions`, `{"bundle":"sha256:${'0'.repeat(64)}","entry":"../x","settings":{}}`),
    ...INVALID,
    pointer: '/entry',
  },
  { name: of('values', 'memory -1'), bytes: deploy('{"memoryMib":-1}'), ...INVALID, pointer: '/settings/memoryMib' },
  { name: of('values', 'memory NaN'), bytes: deploy('{"memoryMib":"NaN"}'), ...INVALID, pointer: '/settings/memoryMib' },
  { name: of('values', 'memory NaN', 'as no JSON'), bytes: deploy('{"memoryMib":NaN}'), status: 400, code: 'bad-request', on: 'api' },
  { name: of('values', 'memory 1e18'), bytes: deploy('{"memoryMib":1e18}'), ...INVALID, pointer: '/settings/memoryMib' },
  { name: of('values', 'timeout 0'), bytes: deploy('{"timeoutSeconds":0}'), ...INVALID, pointer: '/settings/timeoutSeconds' },
  {
    name: of('preconditions', 'stale If-Match'),
    bytes: send('PUT', `${HELLO}/traffic`, '{"traffic":[{"revision":1,"percent":100}]}', 'If-Match: "stale"\r\n'),
    status: 412,
    code: 'precondition-failed',
    on: 'api',
  },
  {
    name: of('unknown', 'function'),
    bytes: controlled('/v1/namespaces/default/functions/nobody'),
    status: 404,
    code: 'function-not-found',
    on: 'api',
  },
  {
    name: of('unknown', 'function', 'on the gateway'),
    bytes: controlled('/nobody'),
    status: 404,
    code: 'function-not-found',
    on: 'gateway',
  },
  {
    name: of('unknown', 'method'),
    bytes: 'DELETE /v1/status HTTP/1.1\r\nHost: a\r\n\r\n',
    status: 405,
    code: 'method-not-allowed',
    on: 'api',
  },
  {
    name: of('unknown', 'method', 'on the gateway'),
    bytes: 'DELETE /.fn/health HTTP/1.1\r\nHost: a\r\n\r\n',
    status: 405,
    code: 'method-not-allowed',
    on: 'gateway',
  },
  { name: of('trigger', 'cron'), bytes: trigger({ type: 'cron', schedule: '61 * * * *' }), ...INVALID, pointer: '/schedule' },
  {
    name: of('trigger', 'time zone'),
    bytes: trigger({ type: 'cron', schedule: '* * * * *', timezone: 'Nowhere/Bad' }),
    ...INVALID,
    pointer: '/timezone',
  },
];
