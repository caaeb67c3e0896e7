/**
 * What else is wrong with a manifest that the schema refuses. Who corrects a file wants all of it at once, so what the
 * schema named is left out, and the rest is looked at as it would be in a file that is good.
 */
import { Manifest, ManifestFunction } from '#contract/manifest.ts';
import { CliError } from '../errors.ts';
import { findSource } from '../source.ts';
import type { ManifestFile } from './file.ts';
import type { ResolvedFunction } from './resolve.ts';
import { inspectManifest } from './resolve.ts';
import type { Fault, Path } from './text.ts';

/** `refused`: where the schema found something. */
export function restOf(raw: unknown, refused: readonly Path[], file: Omit<ManifestFile, 'manifest'>): Fault[] {
  const copy: unknown = structuredClone(raw);
  for (const path of refused) leaveOut(copy, path);
  const parsed = Manifest.safeParse(copy);
  // What is left may not be a manifest at all: then what was found is what there is to say.
  if (!parsed.success) return [];
  const { functions, faults } = inspectManifest({ ...file, manifest: parsed.data }, { variables: null });
  const isNews = ({ message }: Fault): boolean => !refused.some((path) => follows(message, path));
  return [...faults.filter(isNews), ...functions.flatMap((one) => missingSource(one, file.folder))];
}

/** Fields that only together say what a function is made of. */
const SOURCE_FIELDS: ReadonlySet<unknown> = new Set(['entry', 'image', 'runtime']);

/** Whether a fault may only come from something that was left out: a function that has no entry now, or that is not there. */
function follows(message: string, [first, name, field]: Path): boolean {
  if (first === 'defaults') return name === 'runtime' && message.includes('runtime');
  if (first !== 'functions' || name === undefined) return false;
  const label = `functions.${name}`;
  if (field === undefined) return message.startsWith(`${label}: `) || message.includes(`.${label}: `);
  if (SOURCE_FIELDS.has(field)) return message.startsWith(`${label}: `);
  // A name that no field has may have been meant for it.
  return !Object.hasOwn(ManifestFunction.shape, field) && message.startsWith(`${label}: entry is missing`);
}

/** Takes the field away that a path leads to; of a list the whole list, so that no other item moves. */
function leaveOut(root: unknown, path: Path): void {
  const list = path.findIndex((part) => typeof part === 'number');
  const keys = list === -1 ? path : path.slice(0, list);
  const last = keys.at(-1);
  let holder = root;
  for (const key of keys.slice(0, -1)) holder = typeof holder === 'object' && holder !== null ? Reflect.get(holder, key) : undefined;
  if (last !== undefined && typeof holder === 'object' && holder !== null) Reflect.deleteProperty(holder, last);
}

/** Its entry is looked for as `fn deploy` will. */
export function missingSource({ path, sourceFault }: Pick<ResolvedFunction, 'path' | 'sourceFault'>, folder: string): Fault[] {
  if (path === null) return [];
  try {
    findSource(path, folder);
    return [];
  } catch (error) {
    if (!(error instanceof CliError)) throw error;
    return [sourceFault(error.hint === undefined ? error.message : `${error.message}. ${error.hint}`)];
  }
}
