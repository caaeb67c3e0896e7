/** The light Response: status, headers and a body of text or bytes that can be sent as they are. */

/** RFC 9110: a token; and what a header's value may hold. What else there is, Node's own class judges. */
const NAME = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const VALUE = /^(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?$/;
const REASON = /^[\t\x20-\x7e\x80-\xff]*$/;
const TEXT = 'text/plain;charset=UTF-8';

export class LightResponse {
  /** @type {typeof globalThis.Response} Node's own; set before the first response. */
  static Native;

  /** @param {LightResponse} light */
  static toNative(light) {
    return light.#whole();
  }

  /** @param {unknown} value @returns {value is LightResponse} */
  static is(value) {
    return typeof value === 'object' && value !== null && #status in value;
  }

  #status;
  #statusText;
  #body;
  /** @type {string[] | null} Name, value, name, value; until somebody asks for Headers. */
  #pairs;
  /** @type {Headers | null} */
  #headers;
  /** @type {Response | null} */
  #native = null;

  /**
   * @param {string | Uint8Array | null} body
   * @param {number} status
   * @param {string} statusText
   * @param {string[] | null} pairs
   * @param {Headers | null} headers
   */
  constructor(body, status, statusText, pairs, headers) {
    this.#body = body;
    this.#status = status;
    this.#statusText = statusText;
    this.#pairs = pairs;
    this.#headers = headers;
  }

  get status() {
    return this.#status;
  }

  get statusText() {
    return this.#statusText;
  }

  get ok() {
    return this.#status >= 200 && this.#status < 300;
  }

  get headers() {
    if (this.#headers === null) {
      this.#headers = new Headers();
      const pairs = this.#pairs ?? [];
      for (let i = 0; i < pairs.length; i += 2)
        this.#headers.append(/** @type {string} */ (pairs[i]), /** @type {string} */ (pairs[i + 1]));
      this.#pairs = null;
    }
    return this.#headers;
  }

  get bodyUsed() {
    return this.#native?.bodyUsed ?? false;
  }

  /** Headers stay with the light one, so that there is one place where they are. */
  #whole() {
    return (this.#native ??= new LightResponse.Native(/** @type {BodyInit | null} */ (this.#body), {
      status: this.#status,
      statusText: this.#statusText,
      headers: this.headers,
    }));
  }

  clone() {
    if (this.#native === null) return new LightResponse(this.#body, this.#status, this.#statusText, null, new Headers(this.headers));
    const copy = this.#native.clone();
    return new LightResponse.Native(copy.body, { status: this.#status, statusText: this.#statusText, headers: this.headers });
  }

  /** What is to be sent; `stream` where the body became one. */
  get parts() {
    const native = this.#native;
    return {
      status: this.#status,
      statusText: this.#statusText,
      pairs: this.#pairs,
      headers: this.#headers,
      body: native === null ? this.#body : null,
      stream: native === null ? null : native.body,
      used: native?.bodyUsed ?? false,
    };
  }
}

/** @param {unknown} value @returns {value is LightResponse} */
export function isLightResponse(value) {
  return LightResponse.is(value);
}

/**
 * A light response, or null where only Node's own class can do it, or say what is wrong.
 * @param {unknown} body
 * @param {any} init
 * @param {string | undefined} type content type, where the headers name none
 * @returns {any}
 */
export function lightResponse(body, init, type) {
  let status = 200;
  let statusText = '';
  let given;
  if (init !== undefined && init !== null) {
    if (typeof init !== 'object') return null;
    if (init.status !== undefined) status = init.status;
    if (init.statusText !== undefined) statusText = init.statusText;
    given = init.headers;
    if (!Number.isInteger(status) || status < 200 || status > 599) return null;
    if (typeof statusText !== 'string' || !REASON.test(statusText)) return null;
  }
  const content = lightBody(body);
  if (content === undefined) return null;
  if (content !== null && (status === 204 || status === 205 || status === 304)) return null;
  const contentType = type ?? (typeof content === 'string' ? TEXT : undefined);
  if (given === undefined || given === null) {
    if (given === null) return null;
    return new LightResponse(content, status, statusText, contentType === undefined ? null : ['content-type', contentType], null);
  }
  const pairs = lightPairs(given, contentType);
  if (pairs !== null) return new LightResponse(content, status, statusText, pairs, null);
  const headers = new Headers(given);
  if (contentType !== undefined && !headers.has('content-type')) headers.set('content-type', contentType);
  return new LightResponse(content, status, statusText, null, headers);
}

/** undefined where it takes Node's own class. @param {unknown} body @returns {string | Uint8Array | null | undefined} */
function lightBody(body) {
  if (typeof body === 'string') return body;
  if (body === undefined || body === null) return null;
  // A copy, as the standard says: the function may use its buffer again at once.
  if (body instanceof Uint8Array) return Buffer.from(body);
  if (body instanceof ArrayBuffer) return Buffer.from(body.slice(0));
  return undefined;
}

/**
 * A plain object's headers as they are sent, or null where they are anything else or not plainly valid.
 * @param {any} given
 * @param {string | undefined} contentType
 */
function lightPairs(given, contentType) {
  const prototype = Object.getPrototypeOf(given);
  if (prototype !== Object.prototype && prototype !== null) return null;
  /** @type {string[]} */
  const pairs = [];
  let typed = contentType === undefined;
  for (const key of Object.keys(given)) {
    const value = given[key];
    if (typeof value !== 'string' || !NAME.test(key) || !VALUE.test(value)) return null;
    const name = key.toLowerCase();
    if (name === 'content-type') typed = true;
    pairs.push(name, value);
  }
  if (!typed && contentType !== undefined) pairs.push('content-type', contentType);
  return pairs;
}
