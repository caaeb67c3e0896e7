/** CloudEvents' MQTT binding: in MQTT 5 attributes are user properties of their names, without a prefix. */
import type { IPublishPacket } from 'mqtt-packet';

/** A user property that is there more than once: its first value counts. */
export function readAttributes({ properties }: IPublishPacket): Record<string, string> {
  const attributes: Record<string, string> = {};
  for (const [name, value] of Object.entries(properties?.userProperties ?? {})) {
    const first = Array.isArray(value) ? value[0] : value;
    if (first !== undefined) attributes[name.toLowerCase()] = first;
  }
  return attributes;
}

export function writeAttributes({ datacontenttype, ...attributes }: Readonly<Record<string, string>>): IPublishPacket['properties'] {
  return { userProperties: attributes, ...(datacontenttype === undefined ? {} : { contentType: datacontenttype }) };
}

/** Whether a topic is one of a filter, shared ones ($share/GROUP/FILTER) included. */
export function topicMatches(filter: string, topic: string): boolean {
  const wanted = filter.replace(/^\$share\/[^/]*\//, '').split('/');
  const levels = topic.split('/');
  if (topic.startsWith('$') && !wanted[0]!.startsWith('$')) return false;
  for (const [index, level] of wanted.entries()) {
    if (level === '#') return true;
    if (index >= levels.length || (level !== '+' && level !== levels[index])) return false;
  }
  return wanted.length === levels.length;
}
