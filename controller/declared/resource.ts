/** Functions as objects of Kubernetes, as far as they are read. */
import { z } from 'zod';
import {
  FUNCTION_ANNOTATIONS,
  FUNCTION_GROUP,
  FUNCTION_KIND,
  FUNCTION_PLURAL,
  FUNCTION_VERSION,
  FunctionStatus,
} from '#contract/function-resource.ts';
import { ObjectMeta, type Resource } from '../kube/types.ts';

const Fields = z.record(z.string(), z.unknown());

const Read = z.object({
  metadata: ObjectMeta,
  spec: Fields.default({}),
  // Whoever writes nonsense into a status harms himself only: it is written anew.
  status: FunctionStatus.catch({ conditions: [] }).default({ conditions: [] }),
});

/** All of it: asked for when it is applied, and let go after. */
export type WholeFunction = z.infer<typeof Read>;

/** What is kept of each object while nothing is done with it: without its code, and without the copies of it that clients leave in annotations. */
const Kept = Read.transform(({ metadata, spec, status }) => {
  const { source: _source, ...fields } = spec;
  const { name, namespace, uid, resourceVersion, generation, labels, creationTimestamp, deletionTimestamp, annotations } = metadata;
  const ours = Object.values(FUNCTION_ANNOTATIONS).flatMap((key) =>
    annotations[key] === undefined ? [] : [[key, annotations[key]] as const],
  );
  return {
    metadata: {
      name,
      namespace,
      uid,
      resourceVersion,
      generation,
      labels,
      creationTimestamp,
      deletionTimestamp,
      annotations: Object.fromEntries(ours) as Record<string, string>,
    },
    fields,
    status,
  };
});
export type FunctionObject = z.infer<typeof Kept>;

const place = { group: FUNCTION_GROUP, version: FUNCTION_VERSION, plural: FUNCTION_PLURAL, kind: FUNCTION_KIND };
export const FUNCTIONS: Resource<FunctionObject> = { ...place, schema: Kept };
export const WHOLE_FUNCTIONS: Resource<WholeFunction> = { ...place, schema: Read };

/** `core/v1` Event, as far as it is read again. */
const NotedEvent = z.object({ metadata: ObjectMeta, count: z.number().nullish() });
export type NotedEvent = z.infer<typeof NotedEvent>;
export const NOTED_EVENTS: Resource<NotedEvent> = { group: '', version: 'v1', plural: 'events', kind: 'Event', schema: NotedEvent };

/** What there is of any of them that says which one it is. */
export interface Identified {
  metadata: {
    name: string;
    namespace?: string | undefined;
    uid: string;
    resourceVersion: string;
    generation?: number | undefined;
    annotations: Readonly<Record<string, string>>;
  };
}

/** `shop/hello`: for people, and in the audit log behind `kubernetes:`. */
export const objectLabel = ({ metadata: { namespace, name } }: Identified): string => `${namespace}/${name}`;

/** Oldest first; two of the same second by their uid, so that everybody sees the same order. */
export function byAge({ metadata: a }: FunctionObject, { metadata: b }: FunctionObject): number {
  const [one = '', two = ''] = [a.creationTimestamp, b.creationTimestamp];
  if (one !== two) return one < two ? -1 : 1;
  return a.uid < b.uid ? -1 : 1;
}
