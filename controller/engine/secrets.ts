/**
 * Secrets on their way into instances. Values are read for an instance that is about to be
 * initialised, go into its init request, and are kept nowhere; which versions it has is recorded.
 */
import { FnError } from '#contract/errors.ts';
import type { Revision } from '#contract/function.ts';
import type { Instance } from '../core/world.ts';
import type { Store } from '../store/types.ts';
import type { SecretValues } from './context.ts';

export class SecretDelivery {
  readonly #values: SecretValues;
  /** Raised by each change of any secret. */
  #changes = 0;

  constructor(values: SecretValues) {
    this.#values = values;
  }

  /** From now on what is read is new; what was being read meanwhile is read again. */
  changed(): void {
    this.#changes += 1;
  }

  /** The values for an instance, as variables of its environment; it has these versions from now on. Throws FnError. */
  async deliver(instance: Instance, { namespace, settings }: Revision): Promise<Record<string, string>> {
    for (;;) {
      const seen = this.#changes;
      const revealed = settings.secrets.length === 0 ? new Map<string, never>() : await this.#values.reveal(namespace, settings.secrets);
      // A change in between could not find this instance, which had no versions yet.
      if (seen !== this.#changes) continue;
      instance.secrets = Object.fromEntries([...revealed].map(([name, { version }]) => [name, version]));
      return Object.fromEntries([...revealed].map(([name, { value }]) => [name, value]));
    }
  }
}

/** Throws FnError invalid, with a pointer to each secret that does not exist. */
export async function checkSecrets(store: Store, namespace: string, names: readonly string[]): Promise<void> {
  if (names.length === 0) return;
  const known = new Set((await store.listSecrets(namespace)).map((secret) => secret.name));
  const errors = names.flatMap((name, index) =>
    known.has(name) ? [] : { pointer: `/settings/secrets/${index}`, detail: `there is no secret ${name}; fn secret set ${name}` },
  );
  if (errors.length === 0) return;
  const list = names.filter((name) => !known.has(name)).join(', ');
  throw new FnError(
    'invalid',
    errors.length === 1 ? `There is no secret ${list} in this namespace.` : `There are no secrets ${list} in this namespace.`,
    { errors },
  );
}

/** Versions that secrets have now, by namespace and name (`NAMESPACE/NAME`). */
export async function currentVersions(store: Store): Promise<Map<string, number>> {
  return new Map((await store.listSecrets()).map(({ namespace, name, version }) => [`${namespace}/${name}`, version]));
}
