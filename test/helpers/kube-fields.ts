/** Whether an object has only fields that the API of Kubernetes knows, by the models of its client: an API server drops others in silence. */
import * as models from '@kubernetes/client-node';

interface Model {
  getAttributeTypeMap(): { baseName: string; type: string }[];
}

const isModel = (value: unknown): value is Model => typeof value === 'function' && 'getAttributeTypeMap' in value;

const MODELS = new Map<string, Model>();
for (const [name, value] of Object.entries(models)) if (isModel(value)) MODELS.set(name, value);

const SCALARS = new Set(['string', 'number', 'boolean']);

/** Unknown fields and values of another type, with their paths; null where the client has no model of that kind. */
export function fieldFaults(object: { apiVersion: string; kind: string }): string[] | null {
  const version = object.apiVersion.split('/').at(-1)!;
  const type = `${version[0]!.toUpperCase()}${version.slice(1)}${object.kind}`;
  return MODELS.has(type) ? faultsOf(object, type, object.kind) : null;
}

function faultsOf(value: unknown, type: string, path: string): string[] {
  if (value === null || value === undefined || type === 'any') return [];
  const list = /^Array<(.+)>$/.exec(type)?.[1];
  if (list !== undefined) {
    if (!Array.isArray(value)) return [`${path} is no list`];
    return value.flatMap((item: unknown, index) => faultsOf(item, list, `${path}[${index}]`));
  }
  const map = /^\{ \[key: string\]: (.+); \}$/.exec(type)?.[1];
  if (map !== undefined) {
    if (typeof value !== 'object') return [`${path} is no map`];
    return Object.entries(value).flatMap(([key, item]) => faultsOf(item, map, `${path}.${key}`));
  }
  if (type === 'IntOrString') return typeof value === 'number' || typeof value === 'string' ? [] : [`${path} is neither number nor text`];
  if (SCALARS.has(type)) return typeof value === type ? [] : [`${path} is a ${typeof value}, not a ${type}`];
  const model = MODELS.get(type);
  if (model === undefined) return [];
  if (typeof value !== 'object' || Array.isArray(value)) return [`${path} is no object`];
  const fields = new Map(model.getAttributeTypeMap().map(({ baseName, type: of }) => [baseName, of]));
  return Object.entries(value).flatMap(([key, item]) => {
    const of = fields.get(key);
    return of === undefined ? [`${path}.${key} is no field`] : faultsOf(item, of, `${path}.${key}`);
  });
}
