/**
 * Schemas of the OpenAPI document, by name, so that a client's generator names its types as we do.
 * By zod's own JSON Schema (2020-12, which is what OpenAPI 3.1 has): the library's way of naming
 * schemas depends on which module was loaded first.
 */
import { z } from 'zod';
import { FunctionAccess } from '#contract/access.ts';
import {
  BundleInfo,
  DeployRequest,
  DeployResponse,
  FunctionList,
  ImageInfo,
  InstanceView,
  LogEntry,
  PlatformStatus,
  PullImageRequest,
  RevisionList,
  RevisionView,
  TrafficRequest,
} from '#contract/api.ts';
import { CallList, CallRecord, Why } from '#contract/call.ts';
import { FunctionError, PROBLEM_TYPE, Problem } from '#contract/errors.ts';
import {
  DeadLetterCount,
  DeadLetterDetail,
  DeadLetterList,
  DeadLetterSelection,
  EventBacklog,
  EventId,
  InvocationList,
  InvocationResult,
  InvocationView,
} from '#contract/events.ts';
import { FunctionView, Revision } from '#contract/function.ts';
import { LogStats } from '#contract/log.ts';
import { FunctionStats, StatsList } from '#contract/stats.ts';
import { BundleDigest, FunctionName, Namespace } from '#contract/names.ts';
import {
  AuditEntry,
  AuditList,
  CreateTokenRequest,
  CreateTokenResponse,
  NamespaceList,
  NamespaceSettings,
  NamespaceView,
  PutSecretRequest,
  SecretList,
  SecretView,
  TokenList,
  TokenView,
  WhoAmI,
} from '#contract/tenancy.ts';
import { PatchTriggerRequest, Trigger, TriggerList, TriggerName, TriggerStatus, TriggerView } from '#contract/trigger.ts';

/** Parameters that paths have in common. */
export const NamespacePath = z.object({ namespace: Namespace });
export const FunctionPath = z.object({ namespace: Namespace, name: FunctionName });
/** Of an invocation, or of a dead letter. */
export const EventPath = FunctionPath.extend({ id: EventId });
export const TriggerPath = FunctionPath.extend({ trigger: TriggerName });
export const BundlePath = z.object({ namespace: Namespace, digest: BundleDigest });
/** Of changes that may ask that nothing else has changed meanwhile; 412 where it has. */
export const IfMatch = z.object({ 'if-match': z.string().optional() });

/** 202 of POST /v1/shutdown */
export const Stopping = z.object({ stopping: z.literal(true) });
export type Stopping = z.infer<typeof Stopping>;

const ANSWERS = {
  AuditEntry,
  AuditList,
  BundleInfo,
  CallList,
  CallRecord,
  CreateTokenResponse,
  DeadLetterCount,
  DeadLetterDetail,
  DeadLetterList,
  DeployResponse,
  EventBacklog,
  FunctionError,
  FunctionList,
  FunctionStats,
  FunctionView,
  ImageInfo,
  InstanceView,
  InvocationList,
  InvocationResult,
  InvocationView,
  LogEntry,
  LogStats,
  NamespaceList,
  NamespaceView,
  PlatformStatus,
  Problem,
  Revision,
  RevisionList,
  RevisionView,
  SecretList,
  SecretView,
  StatsList,
  Stopping,
  TokenList,
  TokenView,
  TriggerList,
  TriggerStatus,
  TriggerView,
  WhoAmI,
  Why,
};
const REQUESTS = {
  CreateTokenRequest,
  DeadLetterSelection,
  DeployRequest,
  FunctionAccess,
  NamespaceSettings,
  PatchTriggerRequest,
  PullImageRequest,
  PutSecretRequest,
  TrafficRequest,
  Trigger,
};
type SchemaName = keyof typeof ANSWERS | keyof typeof REQUESTS;

const refPath = (name: string): string => `#/components/schemas/${name}`;

/** Every named schema. Requests may leave out what has a default; answers never do. */
export function componentSchemas(): [string, Record<string, unknown>][] {
  return [...jsonSchemas(ANSWERS, 'output'), ...jsonSchemas(REQUESTS, 'input')];
}

function jsonSchemas(named: Record<string, z.ZodType>, io: 'input' | 'output'): [string, Record<string, unknown>][] {
  const registry = z.registry<{ id: string }>();
  for (const [id, schema] of Object.entries(named)) registry.add(schema, { id });
  const { schemas } = z.toJSONSchema(registry, {
    uri: refPath,
    io,
    // An answer may get a field in a later version; a client made of this document must not refuse it then.
    override: ({ jsonSchema }) => {
      if (io === 'output' && jsonSchema.additionalProperties === false) delete jsonSchema.additionalProperties;
    },
  });
  // `$id` and `$schema` are the document's own business.
  return Object.entries(schemas).map(([name, { $id: _id, $schema: _schema, ...schema }]) => [name, schema]);
}

const content = (type: string, name: SchemaName) => ({ [type]: { schema: { $ref: refPath(name) } } });

/** A JSON body, by the name of its schema. */
export const jsonContent = (name: SchemaName) => content('application/json', name);

/** A response, by the name of its schema. */
export const response = (description: string, name: SchemaName, type = 'application/json') => ({
  description,
  content: content(type, name),
});

/** Responses of a route: those it has itself, and the problems that any route may answer with. */
export const responses = <T extends object>(own: T) => ({
  ...own,
  default: response('A problem; its code says which.', 'Problem', PROBLEM_TYPE),
});
