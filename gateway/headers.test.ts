import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { functionHeaders, readRequestHead, readResponseHead, type RequestHead } from './headers.ts';

function head(raw: string[], trusted = false): RequestHead {
  const result = readRequestHead(raw, trusted);
  if ('code' in result) throw new Error(result.detail);
  return result;
}

const token = fc.stringMatching(/^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,24}$/);
const value = fc.stringMatching(/^[ -~]{0,40}$/).map((text) => text.trim());
/** Names of every kind, in any case. */
const name = fc
  .oneof(
    token,
    fc.constantFrom(
      'Fn-Instance',
      'fn-deadline',
      'FN-X',
      'Connection',
      'Keep-Alive',
      'TE',
      'Trailer',
      'Upgrade',
      'Proxy-Authorization',
      'X-Forwarded-For',
      'X-Forwarded-Whatever',
      'Forwarded',
      'X-Real-IP',
      'Expect',
      'X-Request-Id',
      'Cookie',
      'Accept',
    ),
  )
  .filter((text) => !['host', 'content-length', 'transfer-encoding'].includes(text.toLowerCase()))
  .chain((text) => fc.constantFrom(text, text.toLowerCase(), text.toUpperCase()));

const NEVER = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'proxy-authorization',
  'te',
  'trailer',
  'upgrade',
  'expect',
  'forwarded',
  'x-real-ip',
  'transfer-encoding',
  'content-length',
]);

describe('request headers', () => {
  it('property: nothing internal, hop-by-hop or listed passes; everything else does, in its order', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(name, value), { maxLength: 30 }), fc.array(token, { maxLength: 4 }), (pairs, listed) => {
        const raw = ['Host', 'a', ...pairs.flat(), ...(listed.length > 0 ? ['connection', listed.join(' , ')] : [])];
        const connectionValues = pairs.filter(([key]) => key.toLowerCase() === 'connection').flatMap(([, text]) => text.split(','));
        const drop = new Set([...listed, ...connectionValues].map((text) => text.trim().toLowerCase()));
        const { forward } = head(raw);
        const expected = pairs
          .map(([key, text]) => [key.toLowerCase(), text] as const)
          .filter(
            ([key]) =>
              !NEVER.has(key) &&
              !key.startsWith('fn-') &&
              !key.startsWith('x-forwarded-') &&
              !drop.has(key) &&
              !['x-request-id', 'traceparent', 'tracestate', 'host', 'proxy-authenticate', 'http2-settings'].includes(key),
          );
        expect(forward).toEqual(expected.flat());
      }),
    );
  });

  it.each([
    [['Content-Length', '1', 'content-length', '1'], 'bad-request'],
    [['Content-Length', '0x1'], 'bad-request'],
    [['Content-Length', '9'.repeat(16)], 'bad-request'],
    [['Transfer-Encoding', 'chunked', 'Transfer-Encoding', 'chunked'], 'bad-request'],
    [['Transfer-Encoding', 'gzip'], 'not-implemented'],
    [['Transfer-Encoding', 'chunked', 'Content-Length', '1'], 'bad-request'],
    [['Host', 'a', 'HOST', 'a'], 'bad-request'],
  ])('%j is refused and the connection closed', (raw, code) => {
    expect(readRequestHead(raw, false)).toMatchObject({ code, close: true });
  });

  it('a trusted proxy is believed, and what it says is extended', () => {
    const trusted = head(
      [
        'Host',
        'inner',
        'X-Forwarded-For',
        '1.1.1.1',
        'x-forwarded-for',
        '2.2.2.2',
        'X-Forwarded-Proto',
        'https',
        'X-Forwarded-Port',
        '443',
      ],
      true,
    );
    const facts = {
      requestId: 'r',
      instance: 'i',
      deadline: 5,
      secure: false,
      remote: '10.0.0.1',
      prefix: '/f',
      fallbackHost: 'x',
      traceparent: 't',
      continued: false,
    };
    const flat = functionHeaders(trusted, facts);
    const get = (key: string): string | undefined => flat[flat.indexOf(key) + 1];
    expect([get('x-forwarded-for'), get('x-forwarded-proto'), get('x-forwarded-host'), get('x-forwarded-port')]).toEqual([
      '1.1.1.1, 2.2.2.2, 10.0.0.1',
      'https',
      'inner',
      '443',
    ]);
  });
});

describe('response headers', () => {
  it('property: nothing internal or hop-by-hop passes', () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.tuple(
            name.map((text) => text.toLowerCase()),
            value,
          ),
          { maxLength: 30 },
        ),
        (pairs) => {
          const result = readResponseHead(pairs.flat(), false);
          if (typeof result === 'string') throw new Error(result);
          for (let i = 0; i < result.flat.length; i += 2) {
            expect(result.flat[i]).not.toMatch(
              /^(fn-.*|connection|keep-alive|te|trailer|upgrade|proxy-authorization|x-request-id|transfer-encoding)$/,
            );
          }
        },
      ),
    );
  });

  it('one date, all cookies, own timing kept apart', () => {
    expect(
      readResponseHead(
        [
          'date',
          'a',
          'set-cookie',
          'x',
          'date',
          'b',
          'server-timing',
          'db;dur=1',
          'set-cookie',
          'y',
          'server-timing',
          'z',
          'content-length',
          '3',
        ],
        false,
      ),
    ).toEqual({
      flat: ['date', 'a', 'set-cookie', 'x', 'set-cookie', 'y', 'content-length', '3'],
      contentLength: 3,
      serverTiming: 'db;dur=1, z',
    });
  });

  it('that speak for the whole origin pass where it is the tenant’s own', () => {
    const own = Object.entries({
      'strict-transport-security': 'max-age=31536000; includeSubDomains',
      'alt-svc': 'h3=":443"',
      'clear-site-data': '"*"',
      'public-key-pins': 'pin-sha256="x"',
      'service-worker-allowed': '/',
    }).flat();
    expect(readResponseHead([...own, 'etag', 'x', 'alt-svc', 'h2=":8443"'], true)).toMatchObject({ flat: ['etag', 'x'] });
    expect(readResponseHead(own, false)).toMatchObject({ flat: own });
  });

  it.each([
    [['transfer-encoding', 'gzip, chunked']],
    [['content-length', '1', 'content-length', '1']],
    [['content-length', '1x']],
    [['content-length', '1', 'transfer-encoding', 'chunked']],
  ])('%j is no response', (raw) => {
    expect(readResponseHead(raw, false)).toEqual(expect.any(String));
  });
});
