/**
 * A function declared in Kubernetes: `functions.fn.dev/v1alpha1`, kind Function. Its spec is what fn.yaml says of a function,
 * with the same words and units, and where its code is. function-crd.ts makes the definition for the cluster of it.
 */
import { z } from 'zod';
import { Entry } from './function.ts';
import { ManifestFunction } from './manifest.ts';
import { BundleDigest, Namespace } from './names.ts';

export const FUNCTION_GROUP = 'fn.dev';
export const FUNCTION_VERSION = 'v1alpha1';
export const FUNCTION_KIND = 'Function';
export const FUNCTION_PLURAL = 'functions';
export const FUNCTION_API_VERSION = `${FUNCTION_GROUP}/${FUNCTION_VERSION}`;

/** Annotations that people set. */
export const FUNCTION_ANNOTATIONS = {
  /** `true`: a function that is there, and that nobody declares, becomes this object's. */
  adopt: 'fn.dev/adopt',
  /** Any value that it did not have before: the object is applied again, over what was changed elsewhere. */
  reapply: 'fn.dev/reapply',
} as const;

export const FUNCTION_OBJECT_LIMITS = {
  /** Characters of base64: some 1 MB of bundle. etcd takes 1.5 MiB for the whole object. */
  archiveLength: 1_400_000,
  /** Of inline code, together. */
  inlineLength: 900_000,
  inlineFiles: 64,
  /** Bytes of an object that `kubectl apply` can keep a copy of in an annotation; larger ones need `--server-side`. */
  clientSideApplyBytes: 262_144,
} as const;

const SOURCE_KINDS = ['inline', 'archive', 'bundle', 'url'] as const;
export type SourceKind = (typeof SOURCE_KINDS)[number];

const HEX_DIGEST = /^(?:sha256:)?[0-9a-f]{64}$/;

/** Where the code of a declared function is. */
export const FunctionSource = z
  .strictObject({
    inline: z
      .strictObject({
        files: z
          .record(Entry, z.string())
          .describe(
            'Files by name: JavaScript or Python as it is, TypeScript (.ts) without its types. No npm imports: fn render bundles those.',
          ),
      })
      .optional()
      .describe('The code itself.'),
    archive: z
      .string()
      .min(1)
      .max(FUNCTION_OBJECT_LIMITS.archiveLength)
      .regex(/^[A-Za-z0-9+/=\s]+$/, 'must be base64')
      .optional()
      .describe('A bundle in base64: the gzip-compressed tar that fn deploy uploads. fn render makes it.'),
    bundle: BundleDigest.optional().describe('Digest of a bundle that was uploaded to this platform for the same namespace.'),
    url: z
      .url({ protocol: /^https$/, error: 'must be an https URL' })
      .max(2_000)
      .optional()
      .describe('Where the platform fetches the bundle, by https, with sha256.'),
    sha256: z
      .string()
      .regex(HEX_DIGEST, 'must be the SHA-256 of what is at url, 64 hex digits')
      .optional()
      .describe('SHA-256 of what is at url, in hex.'),
  })
  .superRefine((source, context) => {
    const given = SOURCE_KINDS.filter((kind) => source[kind] !== undefined);
    const tell = (message: string, path: string[] = []) => context.addIssue({ code: 'custom', message, path });
    if (given.length !== 1)
      tell(`must have one of ${SOURCE_KINDS.join(', ')}; it has ${given.length === 0 ? 'none' : given.join(' and ')}`);
    if (source.url !== undefined && source.sha256 === undefined) tell('is missing: the digest of what is at url', ['sha256']);
    if (source.sha256 !== undefined && source.url === undefined) tell('goes with url', ['sha256']);
    const files = Object.values(source.inline?.files ?? {});
    if (source.inline !== undefined && files.length === 0) tell('names no file', ['inline', 'files']);
    if (files.length > FUNCTION_OBJECT_LIMITS.inlineFiles)
      tell(`more than ${FUNCTION_OBJECT_LIMITS.inlineFiles} files`, ['inline', 'files']);
    if (files.reduce((sum, text) => sum + text.length, 0) > FUNCTION_OBJECT_LIMITS.inlineLength)
      tell(`more than ${FUNCTION_OBJECT_LIMITS.inlineLength} characters; use url or bundle`, ['inline', 'files']);
  });
export type FunctionSource = z.infer<typeof FunctionSource>;

const { entry: _entry, image: _image, assets: _assets, ...fields } = ManifestFunction.shape;

/** What a Function says beside its source. What comes out has the contract's units, as a manifest's has. */
export const FunctionFields = z.strictObject({
  namespace: Namespace.optional().describe(
    'Namespace of the function in fn. Default, and what is allowed: as the operator mapped this namespace.',
  ),
  entry: Entry.optional().describe('File of the bundle to load: index.mjs, app.py. May be left out where the code is one inline file.'),
  message: z.string().max(200).optional().describe('What this revision is, for fn revisions: a commit, say.'),
  ...fields,
  runtime: fields.runtime.refine(
    (runtime) => runtime !== 'image',
    'functions made of images cannot be declared: fn deploy --image deploys them',
  ),
});
export type FunctionFields = z.infer<typeof FunctionFields>;

/** `spec` of a Function. */
export const FunctionSpec = FunctionFields.extend({
  source: FunctionSource.describe(
    'Where the code is: one of inline, archive, bundle, url. Images are not declared this way: fn deploy takes them.',
  ),
});
export type FunctionSpec = z.infer<typeof FunctionSpec>;
export type FunctionSpecInput = z.input<typeof FunctionSpec>;

/** As Kubernetes' own objects have them (metav1.Condition). */
export const FunctionCondition = z.object({
  type: z.enum(['Ready', 'Synced']),
  status: z.enum(['True', 'False', 'Unknown']),
  /** One word for programs. */
  reason: z.string(),
  message: z.string(),
  lastTransitionTime: z.string(),
  observedGeneration: z.number().int(),
});
export type FunctionCondition = z.infer<typeof FunctionCondition>;

/** What the platform says of it. */
export const FunctionStatus = z.object({
  /** The newest generation that was looked at. */
  observedGeneration: z.number().int().optional().describe('The newest generation of the object that the platform has looked at.'),
  conditions: z
    .array(FunctionCondition)
    .default([])
    .describe('Ready: it is served as the object says. Synced: the platform has what the object says, and nobody changed it elsewhere.'),
  namespace: z.string().optional().describe('Namespace of the function in fn.'),
  revision: z.string().optional().describe('Key of the revision that this object was applied as.'),
  url: z.string().optional().describe('Where it is served.'),
  digest: z.string().optional().describe('Digest of its bundle.'),
  appliedGeneration: z.number().int().optional().describe('Generation of the object that was applied last.'),
  appliedReapply: z.string().optional().describe('Value of the annotation fn.dev/reapply when it was applied last.'),
  installation: z.string().optional().describe('The installation of fn that applied it.'),
});
export type FunctionStatus = z.infer<typeof FunctionStatus>;
