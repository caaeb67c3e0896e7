/** CloudEvents' NATS binding: attributes in headers `ce-NAME`, percent-encoded as in the HTTP binding. */
import { headers, type MsgHdrs } from '@nats-io/transport-node';

const PREFIX = 'ce-';

const decode = (value: string): string => {
  try {
    return decodeURIComponent(value);
  } catch {
    return value;
  }
};

const encode = (value: string): string => value.replaceAll(/[^\x21\x23\x24\x26-\x7e]/gu, (character) => encodeURIComponent(character));

export interface NatsAttributes {
  attributes: Record<string, string>;
  contentType: string | null;
}

export function readHeaders(given: MsgHdrs | undefined): NatsAttributes {
  const attributes: Record<string, string> = {};
  let contentType: string | null = null;
  for (const name of given?.keys() ?? []) {
    const value = given!.get(name);
    const lower = name.toLowerCase();
    if (lower.startsWith(PREFIX)) attributes[lower.slice(PREFIX.length)] = decode(value);
    else if (lower === 'content-type') contentType = value;
  }
  return { attributes, contentType: contentType ?? attributes['datacontenttype'] ?? null };
}

export function writeHeaders(attributes: Readonly<Record<string, string>>): MsgHdrs {
  const made = headers();
  for (const [name, value] of Object.entries(attributes)) made.set(`${PREFIX}${name}`, encode(value));
  if (attributes['datacontenttype'] !== undefined) made.set('Content-Type', attributes['datacontenttype']);
  return made;
}
