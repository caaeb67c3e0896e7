/** The response object of the shim's server: what only the shim may say, a function cannot. */
// Not imported: that would have Node make all that it exports, undici among it, which takes 25 ms of CPU.
const { ServerResponse } = process.getBuiltinModule('node:http');

export class ShimResponse extends ServerResponse {
  /**
   * What only the shim may say is dropped from what the function says.
   * @param {string} name
   * @param {any} value
   * @override
   */
  setHeader(name, value) {
    return isRefused(name) ? this : super.setHeader(name, value);
  }

  /**
   * @param {string} name
   * @param {any} value
   * @override
   */
  appendHeader(name, value) {
    return isRefused(name) ? this : super.appendHeader(name, value);
  }

  /**
   * @param {number} status
   * @param {any} [reason]
   * @param {any} [headers]
   * @returns {this}
   * @override
   */
  writeHead(status, reason, headers) {
    const given = typeof reason === 'string' ? headers : (headers ?? reason);
    if (given !== null && typeof given === 'object' && !Array.isArray(given)) {
      for (const name of Object.keys(given)) if (isRefused(name)) return this.writeHead(status, reason, without(given, name));
    } else if (Array.isArray(given)) {
      const at = given.findIndex((name, index) => isRefused(Array.isArray(name) ? name[0] : index % 2 === 0 ? name : ''));
      if (at >= 0) return this.writeHead(status, reason, given.toSpliced(at, Array.isArray(given[at]) ? 1 : 2));
    }
    return typeof reason === 'string' ? super.writeHead(status, reason, headers) : super.writeHead(status, given);
  }
}

/** While the shim itself says it. */
let refusing = false;

/** @param {unknown} name */
function isRefused(name) {
  return !refusing && typeof name === 'string' && name.length === 10 && name.toLowerCase() === 'fn-refused';
}

/** @param {Record<string, unknown>} object @param {string} name */
function without(object, name) {
  const { [name]: _, ...rest } = object;
  return rest;
}

/**
 * Answers that the instance does not take the request: before any user code ran.
 * @param {import('node:http').ServerResponse} res
 * @param {string} reason
 */
export function refuse(res, reason) {
  refusing = true;
  res.writeHead(503, { 'fn-refused': reason, 'content-length': '0' });
  refusing = false;
  res.end();
}
