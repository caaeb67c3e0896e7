/** CloudEvents' Kafka binding: attributes in headers `ce_NAME`, the type of content in `content-type`. */
const PREFIX = 'ce_';

export interface KafkaAttributes {
  attributes: Record<string, string>;
  contentType: string | null;
}

/** A header that is there more than once: the last counts, as Kafka's own lookup has it. */
export function readHeaders(headers: readonly (readonly [Buffer | null, Buffer | null])[]): KafkaAttributes {
  const attributes: Record<string, string> = {};
  let contentType: string | null = null;
  for (const [key, value] of headers) {
    if (key === null || value === null) continue;
    const name = key.toString('utf8').toLowerCase();
    if (name.startsWith(PREFIX)) attributes[name.slice(PREFIX.length)] = value.toString('utf8');
    else if (name === 'content-type') contentType = value.toString('utf8');
  }
  return { attributes, contentType };
}

export function writeHeaders({ datacontenttype, ...attributes }: Readonly<Record<string, string>>): Map<Buffer, Buffer> {
  const headers = new Map(Object.entries(attributes).map(([name, value]) => [Buffer.from(`${PREFIX}${name}`), Buffer.from(value)]));
  if (datacontenttype !== undefined) headers.set(Buffer.from('content-type'), Buffer.from(datacontenttype));
  return headers;
}
