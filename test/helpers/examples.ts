/** The examples as data: each folder's requests.yaml says what its function is asked and what it answers. */
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import { z } from 'zod';
import { ROOT } from './root.ts';

const Expectation = z.strictObject({
  status: z.number().int(),
  headers: z.record(z.string(), z.string()).default({}),
  /** The whole body. */
  text: z.string().optional(),
  json: z.unknown().optional(),
  /** A part of the body. */
  contains: z.string().optional(),
});

/** `POST /path?query` */
const RequestLine = z.string().regex(/^[A-Z]+ \/\S*$/);

const HttpStep = z.strictObject({
  /** The path is below the function's. */
  request: RequestLine,
  /** Another function of the example. */
  function: z.string().optional(),
  /** It is sent to this trigger instead, which is a webhook. */
  webhook: z.string().optional(),
  headers: z.record(z.string(), z.string()).default({}),
  body: z.string().optional(),
  json: z.unknown().optional(),
  base64: z.string().optional(),
  expect: Expectation,
});

/** A conversation: what is sent, one message after the other, and what must come back for it. */
const WebSocketStep = z.strictObject({
  websocket: z.string().regex(/^\/\S*$/),
  say: z.array(z.strictObject({ send: z.string(), expect: z.string() })).min(1),
});

/** Asked again and again until it answers so: what events bring takes its time. */
const EventuallyStep = z.strictObject({ eventually: RequestLine, function: z.string().optional(), expect: Expectation });

/** Commands for the Redis that the example needs. */
const RedisStep = z.strictObject({ redis: z.array(z.array(z.string()).min(1)).min(1) });

/** How many dead letters the function has in the end. */
const DeadLettersStep = z.strictObject({ deadLetters: z.number().int().min(0) });

const Step = z.union([HttpStep, WebSocketStep, EventuallyStep, RedisStep, DeadLettersStep]);
export type Step = z.infer<typeof Step>;
export type HttpStep = z.infer<typeof HttpStep>;
export type WebSocketStep = z.infer<typeof WebSocketStep>;
export type EventuallyStep = z.infer<typeof EventuallyStep>;

const File = z.union([
  z
    .array(Step)
    .min(1)
    .transform((requests) => ({ secrets: {}, needs: [], requests })),
  z.strictObject({
    secrets: z.record(z.string(), z.string()).default({}),
    /** What must run beside it. The URL `redis://127.0.0.1:6379` in its fn.yaml becomes that of the one that is started. */
    needs: z.array(z.enum(['redis'])).default([]),
    requests: z.array(Step).min(1),
  }),
]);

const Manifest = z.object({ functions: z.record(z.string(), z.unknown()) });

export interface Example {
  name: string;
  folder: string;
  secrets: Record<string, string>;
  needs: readonly 'redis'[];
  /** Names of its functions, as its fn.yaml has them. */
  functions: string[];
  steps: Step[];
}

/** All folders of examples/. Throws where one has no requests.yaml, or one that is not of this shape. */
export function examples(): Example[] {
  return readdirSync(join(ROOT, 'examples'), { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => {
      const folder = join(ROOT, 'examples', name);
      const { secrets, needs, requests } = File.parse(parse(readFileSync(join(folder, 'requests.yaml'), 'utf8')));
      const { functions } = Manifest.parse(parse(readFileSync(join(folder, 'fn.yaml'), 'utf8')));
      return { name, folder, secrets, needs, functions: Object.keys(functions), steps: requests };
    });
}
