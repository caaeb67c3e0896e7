/** CloudEvents' AMQP binding: application properties `cloudEvents:NAME` (read also as cloudEvents_NAME and ce-NAME, as others write them). */
import type { MessageProperties } from 'amqplib';

const PREFIXES = ['cloudevents:', 'cloudevents_', 'ce-'];

export function readAttributes(headers: MessageProperties['headers']): Record<string, string> {
  const attributes: Record<string, string> = {};
  for (const [name, value] of Object.entries(headers ?? {})) {
    const prefix = PREFIXES.find((text) => name.toLowerCase().startsWith(text));
    if (prefix === undefined) continue;
    if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean')
      attributes[name.slice(prefix.length).toLowerCase()] = String(value);
  }
  return attributes;
}

/** Its type of content is a property of the message, not of the application. */
export function writeAttributes({ datacontenttype: _property, ...attributes }: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(attributes).map(([name, value]) => [`cloudEvents:${name}`, value]));
}
