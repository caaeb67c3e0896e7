/** What comes with POST init, and who may send it. */

/** What a nonce begins with that is known by its SHA-256 alone, in hex. */
const HASHED = 'sha256:';

/**
 * In time that does not depend on where they differ.
 * @param {unknown} given
 * @param {string} nonce that the instance was created with, or `sha256:` and its hash; an empty one is nobody's
 */
export function sameNonce(given, nonce) {
  if (typeof given !== 'string' || nonce === '') return false;
  const shown = nonce.startsWith(HASHED) ? `${HASHED}${sha256(given)}` : given;
  if (shown.length !== nonce.length) return false;
  let difference = 0;
  for (let i = 0; i < nonce.length; i++) difference |= nonce.charCodeAt(i) ^ shown.charCodeAt(i);
  return difference === 0;
}

/** Loaded when it is needed: where the nonce is no hash nobody pays for it. @param {string} text */
const sha256 = (text) => process.getBuiltinModule('node:crypto').createHash('sha256').update(text).digest('hex');

/** @param {any} body @returns {body is import('./load.mjs').InitRequest} */
export function isInit(body) {
  const texts = ['revision', 'namespace', 'name', 'code', 'entry'].every((key) => typeof body[key] === 'string');
  const numbers = ['number', 'timeoutMs', 'memoryMib', 'memoryClassMib'].every((key) => Number.isFinite(body[key]));
  const slotsFit = body.slots === null || (Number.isInteger(body.slots) && body.slots >= 1 && body.slots <= 1_000);
  const envFits = typeof body.env === 'object' && body.env !== null && Object.values(body.env).every((value) => typeof value === 'string');
  const cacheFits = body.codeCache === undefined || typeof body.codeCache === 'boolean';
  return texts && numbers && cacheFits && slotsFit && envFits && !body.entry.split('/').includes('..');
}
