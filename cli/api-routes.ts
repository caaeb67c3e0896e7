/** Paths of the control API, made of names that were checked. */
import { checkedName, checkedNamespace } from './names.ts';

/** `?a=1&b=2` of what is there; nothing where nothing is. */
export function queryText(values: Readonly<Record<string, string | number | undefined>>): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) if (value !== undefined) query.set(name, String(value));
  return query.size === 0 ? '' : `?${query}`;
}

/** Throws usageError for what cannot be a name: the API would speak of its own paths and fields. */
export const namespaceRoute = (namespace: string): string => `/v1/namespaces/${checkedNamespace(namespace)}`;
export const functionRoute = (namespace: string, name: string): string =>
  `${namespaceRoute(namespace)}/functions/${checkedName(name, 'fn list shows the names.')}`;
