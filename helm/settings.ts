/** Settings of fn's processes as values of the chart: JSON Schemas made of the schemas that the processes check with. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { ControllerConfig } from '../controller/config.ts';
import { DispatcherSettings } from '../controller/dispatcher/config.ts';
import { ConfigSchema } from '../gateway/config.ts';

export type JsonSchema = Record<string, unknown>;

/** What the chart sets by itself, or what has no meaning in a pod. */
const RESERVED = {
  gateway: new Set([
    ...['FN_GATEWAY_ID', 'FN_LINK', 'FN_EVENTS_LINK', 'FN_LINK_TOKEN_FILE', 'FN_LINK_CA_FILE', 'FN_LISTEN', 'FN_TLS_LISTEN'],
    ...['FN_HEALTH_LISTEN', 'FN_METRICS_LISTEN', 'FN_PUBLIC_URL'],
    // Of a host where a supervisor runs it.
    ...['FN_LINK_SOCKET', 'FN_EVENTS_SOCKET', 'FN_LISTEN_FD', 'FN_TLS_LISTEN_FD', 'FN_ROUTES_WAIT_MS'],
  ]),
  controller: new Set([
    ...[
      'FN_HOME',
      'FN_DRIVER',
      'FN_STANDBY',
      'FN_KUBERNETES',
      'FN_RUNTIME_IMAGES',
      'FN_STORE',
      'FN_PUBLIC_URL',
      'FN_TLS_URL',
      'FN_TLS_CERTS',
    ],
    ...['FN_API_LISTEN', 'FN_API_TOKEN_FILE', 'FN_LINK_LISTEN', 'FN_EVENTS_LISTEN', 'FN_LINK_TOKEN_FILE', 'FN_LINK_TLS_DIR'],
    ...['FN_SECRET_KEY_FILE', 'FN_HEALTH_LISTEN', 'FN_METRICS_LISTEN'],
    // Of other drivers, and of a host.
    ...['FN_GATEWAY_GID', 'FN_RUNTIME_SHIMS', 'FN_NODE_FLAGS', 'FN_FREEZE_AFTER_MS', 'FN_ALLOW_UNFILTERED_EGRESS'],
  ]),
};

/** Their defaults are of the machine that this is made on. */
const OF_THE_MACHINE = new Set(['FN_MEMORY_BUDGET_MIB', 'FN_CPU_BUDGET', 'FN_MAX_CREATES']);

const ROOT = join(import.meta.dirname, '..');

/** What a source file says of each setting: the comment above its first line, which is the schema's. */
function descriptions(file: string): Map<string, string> {
  const found = new Map<string, string>();
  for (const [, comment, name] of readFileSync(join(ROOT, file), 'utf8').matchAll(/\/\*\*((?:(?!\*\/)[^])*)\*\/\s*(FN_\w+):/g)) {
    const text = comment!.replaceAll(/\s*\n\s*\*?\s*/g, ' ').replaceAll(/\s+/g, ' ');
    if (!found.has(name!)) found.set(name!, text.trim());
  }
  return found;
}

/** A setting of an environment as a value: numbers are numbers, and all else is the text that the process reads. */
function asValue(name: string, schema: z.ZodType): JsonSchema {
  const convert = (io: 'input' | 'output'): JsonSchema => {
    const { $schema: _, ...rest } = z.toJSONSchema(schema, { io, target: 'draft-7', unrepresentable: 'any' });
    return rest;
  };
  const output = convert('output');
  if (output.type === 'number' || output.type === 'integer') {
    if (OF_THE_MACHINE.has(name)) delete output.default;
    // What a double cannot hold is no limit.
    if (output.maximum === Number.MAX_SAFE_INTEGER) delete output.maximum;
    return output;
  }
  const input = convert('input');
  // YAML's 1 and "1" are both meant.
  if (Array.isArray(input.enum) && input.enum.every((one) => one === '0' || one === '1'))
    return { enum: ['0', '1', 0, 1], default: input.default };
  return input;
}

function settings(
  shape: Readonly<Record<string, z.ZodType>>,
  reserved: ReadonlySet<string>,
  said: ReadonlyMap<string, string>,
): JsonSchema {
  const properties: Record<string, JsonSchema> = {};
  for (const name of Object.keys(shape).toSorted()) {
    if (reserved.has(name)) continue;
    const description = said.get(name);
    properties[name] = { ...(description === undefined ? {} : { description }), ...asValue(name, shape[name]!) };
  }
  return { type: 'object', additionalProperties: false, properties };
}

/** gateway.config of the values. */
export const gatewaySettings = (): JsonSchema => settings(ConfigSchema.shape, RESERVED.gateway, descriptions('gateway/config.ts'));

/** controller.config of the values: the dispatcher, its child, reads the same environment. */
export const controllerSettings = (): JsonSchema =>
  settings(
    { ...DispatcherSettings.shape, ...ControllerConfig.shape },
    RESERVED.controller,
    new Map([...descriptions('controller/dispatcher/config.ts'), ...descriptions('controller/config.ts')]),
  );
