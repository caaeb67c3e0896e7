/**
 * Sealing: AES-256-GCM. A sealed value is a format byte, the key's id, a random nonce, the ciphertext and the
 * tag. What it belongs to (namespace, name, version) is authenticated along with it, so that a value
 * which was put in another's place in the store does not open.
 */
import { createCipheriv, createDecipheriv, randomBytes, timingSafeEqual } from 'node:crypto';
import { FnError } from '#contract/errors.ts';
import { KEY_ID_BYTES, type SealingKey } from './key.ts';

const FORMAT = 1;
const CIPHER = 'aes-256-gcm';
/** What NIST SP 800-38D recommends; random, so a key is good for 2^32 values. */
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const HEAD_BYTES = 1 + KEY_ID_BYTES + NONCE_BYTES;

/** What a sealed value belongs to. */
export interface SealOf {
  namespace: string;
  name: string;
  version: number;
}

/** The head's format and key id are authenticated too. Names hold no NUL. */
const associatedData = ({ namespace, name, version }: SealOf, head: Uint8Array): Buffer =>
  Buffer.concat([head.subarray(0, 1 + KEY_ID_BYTES), Buffer.from(`${namespace}\0${name}\0${version}`)]);

export function seal(value: string, of: SealOf, key: SealingKey): Uint8Array {
  const nonce = randomBytes(NONCE_BYTES);
  const head = Buffer.concat([Uint8Array.of(FORMAT), key.id, nonce]);
  const cipher = createCipheriv(CIPHER, key.bytes, nonce, { authTagLength: TAG_BYTES });
  cipher.setAAD(associatedData(of, head));
  return Buffer.concat([head, cipher.update(value, 'utf8'), cipher.final(), cipher.getAuthTag()]);
}

/** Throws FnError store-unavailable that tells a wrong key from a damaged value. The value is in no message. */
export function open(sealed: Uint8Array, of: SealOf, key: SealingKey): string {
  const what = `The secret ${of.name} of the namespace ${of.namespace}`;
  const head = sealed.subarray(0, HEAD_BYTES);
  if (sealed.length < HEAD_BYTES + TAG_BYTES || head[0] !== FORMAT)
    throw new FnError('store-unavailable', `${what} is damaged or was written by a newer fn: set it again.`);
  const keyId = head.subarray(1, 1 + KEY_ID_BYTES);
  if (!timingSafeEqual(keyId, key.id)) {
    const [theirs, ours] = [keyId, key.id].map((id) => Buffer.from(id).toString('hex'));
    throw new FnError(
      'store-unavailable',
      `${what} was sealed with the key ${theirs}, and the key file holds ${ours}: restore the key file, or set the secret again.`,
    );
  }
  const decipher = createDecipheriv(CIPHER, key.bytes, head.subarray(1 + KEY_ID_BYTES), { authTagLength: TAG_BYTES });
  decipher.setAAD(associatedData(of, head));
  decipher.setAuthTag(sealed.subarray(-TAG_BYTES));
  try {
    return Buffer.concat([decipher.update(sealed.subarray(HEAD_BYTES, -TAG_BYTES)), decipher.final()]).toString('utf8');
  } catch (error) {
    throw new FnError('store-unavailable', `${what} does not open: it was altered in the store. Set it again.`, { cause: error });
  }
}
