/**
 * Which registries the engine may be sent to. It dials from this host, with all that this host can
 * reach, and repeats what it was answered: for who may not administer the platform only registries are
 * dialled that the operator lists.
 */
import { FnError } from '#contract/errors.ts';
import { covers, type Principal } from '#contract/tenancy.ts';

/** Public ones, where the operator lists none (FN_REGISTRIES). */
export const PUBLIC_REGISTRIES: readonly string[] = [
  'docker.io',
  'ghcr.io',
  'quay.io',
  'gcr.io',
  'registry.k8s.io',
  'public.ecr.aws',
  'mcr.microsoft.com',
];

/** Registry of a reference, as Docker reads it: what is before the first `/`, where that looks like a host. */
export function registryOf(reference: string): string {
  const slash = reference.indexOf('/');
  const first = slash < 0 ? '' : reference.slice(0, slash);
  // Docker takes upper case for a host, too.
  if (!/[.:]/.test(first) && first !== 'localhost' && first === first.toLowerCase()) return 'docker.io';
  return first === 'index.docker.io' ? 'docker.io' : first;
}

/** Throws FnError forbidden. `*` in the list: any. */
export function checkRegistry(reference: string, { namespaces }: Principal, listed: readonly string[]): void {
  if (covers(namespaces, null) || listed.includes('*')) return;
  const registry = registryOf(reference);
  if (listed.includes(registry)) return;
  throw new FnError(
    'forbidden',
    `Images of the registry ${registry} are not pulled for a token of some namespaces only: FN_REGISTRIES does not list it. ` +
      'Send the image itself, or ask an admin of the platform.',
    { errors: [{ pointer: '/reference', detail: `a registry that is listed: ${listed.join(', ') || 'there is none'}` }] },
  );
}
