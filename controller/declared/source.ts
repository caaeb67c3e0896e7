/** The code of a declared function: brought into the store of bundles, wherever it is, under the namespace's name and within its quota. */
import { createHash } from 'node:crypto';
import { FnError } from '#contract/errors.ts';
import type { FunctionSpec } from '#contract/function-resource.ts';
import { resolverFor } from '#kit/resolve-host.ts';
import { uploadLimit } from '../api/uploads.ts';
import { fetchBundle } from './fetch-bundle.ts';
import { inlineBundle } from './inline.ts';
import type { DeclaredOptions } from './ports.ts';

export type SourceParts = Pick<DeclaredOptions, 'bundles' | 'store' | 'tenants' | 'networks' | 'clock' | 'ca'>;

export interface Located {
  digest: string;
  entry: string;
  /** undefined: as the object says, else node. */
  runtime: string | undefined;
}

const missingEntry = (): FnError =>
  new FnError('invalid', '/spec/entry: is missing: which file of the bundle is loaded', {
    errors: [{ pointer: '/spec/entry', detail: 'is missing: which file of the bundle is loaded' }],
  });

/** Throws FnError invalid, forbidden, quota-exceeded, body-too-large, and what the store throws. */
export async function locateCode(namespace: string, spec: FunctionSpec, parts: SourceParts, signal: AbortSignal): Promise<Located> {
  const { source, entry, runtime } = spec;
  if (source.inline !== undefined) {
    const bundle = await inlineBundle(source.inline.files, { entry, runtime });
    await keep(namespace, bundle.digest, [bundle.bytes], parts);
    return { digest: bundle.digest, entry: bundle.entry, runtime: bundle.runtime };
  }
  if (entry === undefined) throw missingEntry();
  if (source.bundle !== undefined) return { digest: source.bundle, entry, runtime };
  const { digest, chunks } = source.archive === undefined ? await fetched(namespace, source, parts, signal) : decoded(source.archive);
  if (chunks !== null) await keep(namespace, digest, chunks, parts);
  return { digest, entry, runtime };
}

function decoded(archive: string): { digest: string; chunks: Buffer[] } {
  const bytes = Buffer.from(archive, 'base64');
  return { digest: `sha256:${createHash('sha256').update(bytes).digest('hex')}`, chunks: [bytes] };
}

/** What is here already is not fetched again. */
async function fetched(
  namespace: string,
  { url = '', sha256 = '' }: FunctionSpec['source'],
  { bundles, store, tenants, networks, ca }: SourceParts,
  signal: AbortSignal,
): Promise<{ digest: string; chunks: Buffer[] | null }> {
  const digest = sha256.startsWith('sha256:') ? sha256 : `sha256:${sha256}`;
  if ((await store.hasArtifact(namespace, 'bundle', digest)) && (await bundles.has(digest))) return { digest, chunks: null };
  const { maxBytes } = await uploadLimit(tenants, namespace);
  return { digest, chunks: await fetchBundle({ url, digest, maxBytes, resolve: resolverFor(networks(namespace)), signal, ca }) };
}

async function keep(
  namespace: string,
  digest: string,
  chunks: readonly Buffer[],
  { bundles, store, tenants, clock }: SourceParts,
): Promise<void> {
  const { maxBytes, tooLarge } = await uploadLimit(tenants, namespace);
  if (chunks.reduce((sum, { length }) => sum + length, 0) > maxBytes) throw tooLarge();
  await bundles.put(digest, oneByOne(chunks));
  await store.addArtifact(namespace, 'bundle', digest, clock.wall());
}

async function* oneByOne(chunks: readonly Buffer[]): AsyncGenerator<Uint8Array> {
  for (const chunk of chunks) yield await Promise.resolve(chunk);
}
