/** The images that fn needs in a cluster: what the builder of runtime-images/ says of them, and the chart's values for them. */
import { stringify } from 'yaml';
import { z } from 'zod';
import type { Context } from './context.ts';
import { say } from './context.ts';
import { CliError, usageError } from './errors.ts';
import type { ChosenImages } from './images-options.ts';
import { runBuilder } from './supervisor/runtimes.ts';

const Kind = z.enum(['platform', 'runtime']);
const Names = z.record(z.string(), z.string());
const Listed = z.record(z.string(), z.object({ image: z.string(), kind: Kind, built: z.boolean(), bytes: z.number().nullable() }));
const Pushed = z.record(z.string(), z.object({ kind: Kind, repository: z.string(), tag: z.string(), digest: z.string() }));

/** By the images' names: `gateway`, `node`. */
export const ANSWERS = { build: Names, list: Listed, save: Listed, push: Pushed } as const;

/** Runs the builder with what the command line chose; its progress goes to stderr. Throws CliError. */
export async function askBuilder<Action extends keyof typeof ANSWERS>(
  ctx: Context,
  action: Action,
  chosen: ChosenImages,
  more: readonly string[] = [],
): Promise<z.infer<(typeof ANSWERS)[Action]>> {
  const args = [
    action,
    ...imageNames(chosen.names).flatMap((name) => ['--name', name]),
    ...(chosen.all ? ['--all'] : []),
    ...(chosen.base === undefined ? [] : ['--base', chosen.base]),
    ...more,
  ];
  const answer = ANSWERS[action].safeParse(JSON.parse(await runBuilder('images', args, ctx.env, (line) => say(ctx, line))));
  if (!answer.success) throw new CliError('the image builder answered something else than its images');
  return answer.data as z.infer<(typeof ANSWERS)[Action]>;
}

/** `gateway,node` → both. Throws usageError where one is not a name. */
function imageNames(text: string | undefined): string[] {
  const names = (text ?? '').split(',').filter(Boolean);
  const wrong = names.find((name) => !/^[a-z0-9][a-z0-9-]{0,62}$/.test(name));
  if (wrong !== undefined) throw usageError(`${JSON.stringify(wrong)} is not the name of an image`, 'For example: gateway,controller,node');
  return names;
}

/** Where a cluster finds an image. */
export interface ImagePlace {
  kind: z.infer<typeof Kind>;
  /** With the registry's host, where it has one. */
  repository: string;
  tag: string;
  digest?: string;
}

/** Runtimes that the chart knows: those without an image here are switched off. */
const CHART_RUNTIMES = ['node', 'python', 'bun', 'deno', 'binary'];

/** The chart's values for these images, as YAML. */
export function chartValues(places: Readonly<Record<string, ImagePlace>>): string {
  const images: Record<string, object> = {};
  const runtimes: Record<string, object> = {};
  for (const [name, { kind, repository, tag, digest = '' }] of Object.entries(places)) {
    const place = { ...splitRepository(repository), tag, digest };
    if (kind === 'platform') images[name] = place;
    else runtimes[name] = { enabled: true, ...place };
  }
  if (Object.keys(runtimes).length > 0) for (const name of CHART_RUNTIMES) runtimes[name] ??= { enabled: false };
  const values = { ...(Object.keys(images).length > 0 ? { images } : {}), ...(Object.keys(runtimes).length > 0 ? { runtimes } : {}) };
  return stringify(values);
}

/** `registry.example:5000/fn/gateway` → its host, and the rest. Without a host the cluster's own default counts. */
function splitRepository(text: string): { registry: string; repository: string } {
  const slash = text.indexOf('/');
  const host = text.slice(0, Math.max(slash, 0));
  if (host.includes('.') || host.includes(':') || host === 'localhost') return { registry: host, repository: text.slice(slash + 1) };
  return { registry: '', repository: text };
}
