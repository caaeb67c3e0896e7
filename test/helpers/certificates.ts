/**
 * Certificates for tests: a throw-away authority, and what it signs. Node can sign, but not write X.509;
 * so the few structures of it (RFC 5280) that a server certificate needs are written here, as DER.
 */
import { generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto';

export interface TestCertificate {
  /** PEM. */
  cert: string;
  key: string;
}

export interface TestAuthority {
  /** Its own certificate, PEM: what clients trust. */
  readonly cert: string;
  /** A certificate for these DNS names. */
  issue(...names: string[]): TestCertificate;
}

const DAY_MS = 86_400_000;

const SEQUENCE = 0x30;
const SET = 0x31;
const INTEGER = 0x02;
const BIT_STRING = 0x03;
const OCTET_STRING = 0x04;
const OBJECT_ID = 0x06;
const UTF8_STRING = 0x0c;
const UTC_TIME = 0x17;
const BOOLEAN = 0x01;
/** Context-specific tags: primitive, and constructed. */
const context = (number: number): number => 0x80 + number;
const explicit = (number: number): number => 0xa0 + number;

/** One value: tag, length, content. */
function der(tag: number, ...parts: Buffer[]): Buffer {
  const content = Buffer.concat(parts);
  const { length } = content;
  if (length < 0x80) return Buffer.concat([Buffer.from([tag, length]), content]);
  const bytes = length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...bytes]), content]);
}

/** `2.5.29.17` */
function objectId(text: string): Buffer {
  const [first = 0, second = 0, ...rest] = text.split('.').map(Number);
  const bytes = rest.flatMap((part) => {
    const digits = [part & 0x7f];
    for (let left = part >> 7; left > 0; left >>= 7) digits.unshift((left & 0x7f) | 0x80);
    return digits;
  });
  return der(OBJECT_ID, Buffer.from([first * 40 + second, ...bytes]));
}

const ECDSA_WITH_SHA256 = der(SEQUENCE, objectId('1.2.840.10045.4.3.2'));
const TRUE = der(BOOLEAN, Buffer.from([0xff]));
const commonName = (name: string): Buffer =>
  der(SEQUENCE, der(SET, der(SEQUENCE, objectId('2.5.4.3'), der(UTF8_STRING, Buffer.from(name)))));
const utcTime = (at: number): Buffer => der(UTC_TIME, Buffer.from(`${new Date(at).toISOString().replaceAll(/[-:T]/g, '').slice(2, 14)}Z`));
const extension = (id: string, critical: boolean, value: Buffer): Buffer =>
  der(SEQUENCE, objectId(id), ...(critical ? [TRUE] : []), der(OCTET_STRING, value));
const pem = (what: string, bytes: Buffer): string =>
  `-----BEGIN ${what}-----\n${bytes.toString('base64').replaceAll(/.{64}(?=.)/g, '$&\n')}\n-----END ${what}-----\n`;

interface Unsigned {
  subject: string;
  issuer: string;
  publicKey: KeyObject;
  extensions: Buffer[];
}

function certificate({ subject, issuer, publicKey, extensions }: Unsigned, signer: KeyObject): string {
  const now = Date.now();
  const body = der(
    SEQUENCE,
    der(explicit(0), der(INTEGER, Buffer.from([2]))),
    der(INTEGER, Buffer.concat([Buffer.from([1]), randomBytes(8)])),
    ECDSA_WITH_SHA256,
    commonName(issuer),
    der(SEQUENCE, utcTime(now - DAY_MS), utcTime(now + DAY_MS)),
    commonName(subject),
    publicKey.export({ type: 'spki', format: 'der' }),
    der(explicit(3), der(SEQUENCE, ...extensions)),
  );
  const signature = sign('sha256', body, signer);
  return pem('CERTIFICATE', der(SEQUENCE, body, ECDSA_WITH_SHA256, der(BIT_STRING, Buffer.from([0]), signature)));
}

const newKeys = () => generateKeyPairSync('ec', { namedCurve: 'P-256' });

/** Makes an authority; it and what it signs are good for a day. */
export function testAuthority(): TestAuthority {
  const issuer = `fn test authority ${randomBytes(4).toString('hex')}`;
  const keys = newKeys();
  const isAuthority = extension('2.5.29.19', true, der(SEQUENCE, TRUE));
  return {
    cert: certificate({ subject: issuer, issuer, publicKey: keys.publicKey, extensions: [isAuthority] }, keys.privateKey),
    issue(...names) {
      const own = newKeys();
      const alternativeNames = der(SEQUENCE, ...names.map((name) => der(context(2), Buffer.from(name))));
      return {
        cert: certificate(
          { subject: names[0] ?? '', issuer, publicKey: own.publicKey, extensions: [extension('2.5.29.17', false, alternativeNames)] },
          keys.privateKey,
        ),
        key: own.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
      };
    },
  };
}
