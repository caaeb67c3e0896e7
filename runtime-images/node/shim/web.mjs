/**
 * Request, Response and fetch as handlers see them. Node's own cost more than all the rest of a small
 * request (headers, streams and signals are made whether used or not), so a handler is given light
 * ones that are made whole by Node's own only where more is asked of them. They are instances of
 * Node's Request and Response to every test, and the globals accept both kinds.
 */
import { LightRequest, nativeRequest } from './web-request.mjs';
import { isLightResponse, LightResponse, lightResponse } from './web-response.mjs';

/** @typedef {typeof globalThis.Request} RequestClass */
/** @typedef {typeof globalThis.Response} ResponseClass */

let installed = false;

/**
 * Makes the globals, once: before any code of a function runs. Only to look at Node's own makes Node load undici, 25 ms of CPU; so it
 * is done while the instance waits in the pool, or else when it gets its code.
 */
export function makeWebGlobals() {
  if (installed) return;
  installed = true;
  const NativeRequest = globalThis.Request;
  const NativeResponse = globalThis.Response;
  const nativeFetch = globalThis.fetch;
  adopt(LightRequest.prototype, NativeRequest.prototype, LightRequest.toNative);
  adopt(LightResponse.prototype, NativeResponse.prototype, LightResponse.toNative);
  LightRequest.Native = NativeRequest;
  LightResponse.Native = NativeResponse;
  define('Request', requestClass(NativeRequest));
  define('Response', responseClass(NativeResponse));
  const fetch = { fetch: (/** @type {any} */ input, /** @type {any} */ init) => nativeFetch(nativeRequest(input), init) }.fetch;
  define('fetch', fetch, true);
}

/**
 * @param {string} name
 * @param {unknown} value
 * @param {boolean} [enumerable]
 */
function define(name, value, enumerable = false) {
  Object.defineProperty(globalThis, name, { value, writable: true, configurable: true, enumerable });
}

/**
 * What the light class does not have itself, it does by its native twin.
 * @param {any} light prototype
 * @param {object} native prototype
 * @param {(object: any) => any} toNative
 */
function adopt(light, native, toNative) {
  Object.setPrototypeOf(light, native);
  // `constructor` is then what the global is.
  Reflect.deleteProperty(light, 'constructor');
  for (const [name, descriptor] of Object.entries(Object.getOwnPropertyDescriptors(native))) {
    if (name === 'constructor' || Object.hasOwn(light, name)) continue;
    if (descriptor.get) {
      Object.defineProperty(light, name, {
        configurable: true,
        enumerable: true,
        get() {
          return toNative(this)[name];
        },
      });
    } else if (typeof descriptor.value === 'function') {
      const method = { [name](/** @type {any[]} */ ...args) { return toNative(this)[name](...args); } }[name]; // prettier-ignore
      Object.defineProperty(light, name, { configurable: true, writable: true, enumerable: true, value: method });
    }
  }
}

/**
 * @param {RequestClass} Native
 * @returns {RequestClass}
 */
function requestClass(Native) {
  /**
   * @param {any} input
   * @param {any} [init]
   */
  function Request(input, init) {
    if (new.target === undefined) throw new TypeError("Class constructor Request cannot be invoked without 'new'");
    const args = arguments.length < 2 ? [nativeRequest(input)] : [nativeRequest(input), init];
    return Reflect.construct(Native, arguments.length === 0 ? [] : args, new.target === Request ? Native : new.target);
  }
  return standIn(Request, Native);
}

/**
 * @param {ResponseClass} Native
 * @returns {ResponseClass}
 */
function responseClass(Native) {
  /**
   * @param {any} [body]
   * @param {any} [init]
   */
  function Response(body, init) {
    if (new.target === undefined) throw new TypeError("Class constructor Response cannot be invoked without 'new'");
    if (new.target !== Response) return Reflect.construct(Native, [body, init], new.target);
    return lightResponse(body, init, undefined) ?? new Native(body, init);
  }
  /**
   * @param {unknown} data
   * @param {any} [init]
   */
  const json = (data, init) => {
    const text = JSON.stringify(data);
    return (typeof text === 'string' ? lightResponse(text, init, 'application/json') : null) ?? Native.json(data, init);
  };
  return standIn(Response, Native, { json });
}

/**
 * The function with the prototype and the static members of the class: `instanceof` and `extends` hold for both kinds.
 * @template {Function} T
 * @param {Function} replacement
 * @param {T} Native
 * @param {Record<string, Function>} [statics]
 * @returns {T}
 */
function standIn(replacement, Native, statics = {}) {
  Object.setPrototypeOf(replacement, Native);
  Object.defineProperty(replacement, 'prototype', { value: Native.prototype, writable: false });
  Object.defineProperty(replacement, 'length', { value: Native.length, configurable: true });
  for (const [name, value] of Object.entries(statics)) {
    Object.defineProperty(replacement, name, { value, writable: true, configurable: true, enumerable: true });
  }
  Object.defineProperty(Native.prototype, 'constructor', { value: replacement, writable: true, configurable: true });
  return /** @type {T} */ (replacement);
}

export { isLightResponse, LightRequest, LightResponse };
