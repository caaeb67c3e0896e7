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

const HttpStep = z.strictObject({
  /** `POST /path?query`; the path is below the function's. */
  request: z.string().regex(/^[A-Z]+ \/\S*$/),
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

const Step = z.union([HttpStep, WebSocketStep]);
export type Step = z.infer<typeof Step>;
export type HttpStep = z.infer<typeof HttpStep>;
export type WebSocketStep = z.infer<typeof WebSocketStep>;

const File = z.union([
  z
    .array(Step)
    .min(1)
    .transform((requests) => ({ secrets: {}, requests })),
  z.strictObject({ secrets: z.record(z.string(), z.string()).default({}), requests: z.array(Step).min(1) }),
]);

export interface Example {
  name: string;
  folder: string;
  secrets: Record<string, string>;
  steps: Step[];
}

/** All folders of examples/. Throws where one has no requests.yaml, or one that is not of this shape. */
export function examples(): Example[] {
  return readdirSync(join(ROOT, 'examples'), { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => {
      const folder = join(ROOT, 'examples', name);
      const { secrets, requests } = File.parse(parse(readFileSync(join(folder, 'requests.yaml'), 'utf8')));
      return { name, folder, secrets, steps: requests };
    });
}
