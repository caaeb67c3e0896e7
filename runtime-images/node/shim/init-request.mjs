/** What comes with POST init, and who may send it. */

/**
 * In time that does not depend on where they differ.
 * @param {unknown} given
 * @param {string} nonce that the instance was created with; an empty one is nobody's
 */
export function sameNonce(given, nonce) {
  if (typeof given !== 'string' || given.length !== nonce.length || nonce === '') return false;
  let difference = 0;
  for (let i = 0; i < nonce.length; i++) difference |= nonce.charCodeAt(i) ^ given.charCodeAt(i);
  return difference === 0;
}

/** @param {any} body @returns {body is import('./load.mjs').InitRequest} */
export function isInit(body) {
  const texts = ['revision', 'namespace', 'name', 'code', 'entry'].every((key) => typeof body[key] === 'string');
  const numbers = ['number', 'timeoutMs', 'memoryMib', 'memoryClassMib'].every((key) => Number.isFinite(body[key]));
  const slotsFit = body.slots === null || (Number.isInteger(body.slots) && body.slots >= 1 && body.slots <= 1_000);
  const envFits = typeof body.env === 'object' && body.env !== null && Object.values(body.env).every((value) => typeof value === 'string');
  return texts && numbers && slotsFit && envFits && !body.entry.split('/').includes('..');
}
