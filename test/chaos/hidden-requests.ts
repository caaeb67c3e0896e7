/** Requests that two parsers could read in two ways: each holds another one that must never be served. */

export interface Hidden {
  name: string;
  /** The bytes of a request for `target`, with `inside` where some parser might take it for a request. */
  bytes: (target: string, inside: string) => string;
}

const post = (name: string, headers: string[], body: (inside: string) => string): Hidden => ({
  name,
  bytes: (target, inside) => `POST ${target} HTTP/1.1\r\nHost: a\r\n${headers.map((line) => `${line}\r\n`).join('')}\r\n${body(inside)}`,
});

/** Of a body that both lengths are given for. */
const chunksThen = (inside: string) => `0\r\n\r\n${inside}`;
const hex = (text: string) => text.length.toString(16);

/** Whatever is told of them, `inside` is no request: they are refused, or it is their body. */
export function ambiguous(): Hidden[] {
  const bothLengths = (name: string, coding: string): Hidden => ({
    name,
    bytes: (target, inside) =>
      `POST ${target} HTTP/1.1\r\nHost: a\r\nContent-Length: ${inside.length + 5}\r\n${coding}\r\n\r\n${chunksThen(inside)}`,
  });
  const lengths = (name: string, of: (inside: string) => string[]): Hidden => ({
    name,
    bytes: (target, inside) => `POST ${target} HTTP/1.1\r\nHost: a\r\n${of(inside).join('\r\n')}\r\n\r\n${inside}`,
  });
  return [
    bothLengths('both lengths', 'Transfer-Encoding: chunked'),
    bothLengths('both lengths, a blank before the colon', 'Transfer-Encoding : chunked'),
    bothLengths('both lengths, folded', 'Transfer-Encoding:\r\n chunked'),
    bothLengths('both lengths, identity first', 'Transfer-Encoding: identity, chunked'),
    bothLengths('both lengths, a vertical tab', 'Transfer-Encoding:\vchunked'),
    bothLengths('both lengths, after a bare LF', 'X: y\nTransfer-Encoding: chunked'),
    lengths('two lengths', (inside) => ['Content-Length: 0', `Content-Length: ${inside.length}`]),
    lengths('a list of lengths', (inside) => [`Content-Length: 0, ${inside.length}`]),
    lengths('a signed length', (inside) => [`Content-Length: +${inside.length}`]),
    lengths('a hexadecimal length', (inside) => [`Content-Length: 0x${hex(inside)}`]),
    lengths('a negative length', (inside) => [`Content-Length: -${inside.length}`]),
    post('an unknown coding', ['Transfer-Encoding: xchunked'], (inside) => inside),
    post('chunked twice', ['Transfer-Encoding: chunked', 'Transfer-Encoding: chunked'], chunksThen),
    post('chunked is not last', ['Transfer-Encoding: chunked, gzip'], chunksThen),
    post('a chunk that ends in LF', ['Transfer-Encoding: chunked'], (inside) => `1\nx\r\n0\r\n\r\n${inside}`),
    post('a signed chunk', ['Transfer-Encoding: chunked'], (inside) => `+1\r\nx\r\n0\r\n\r\n${inside}`),
    post('a chunk longer than it says', ['Transfer-Encoding: chunked'], (inside) => `1\r\nxxxx\r\n0\r\n\r\n${inside}`),
    // These two are plain: a request in a body is a body.
    lengths('a body that is a request', (inside) => [`Content-Length: ${inside.length}`]),
    post('a chunk that is a request', ['Transfer-Encoding: chunked'], (inside) => `${hex(inside)}\r\n${inside}\r\n0\r\n\r\n`),
  ];
}
