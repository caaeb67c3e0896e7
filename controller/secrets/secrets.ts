/** Secrets: sealed at rest, opened only for an instance that is about to get them. */
import { FnError } from '#contract/errors.ts';
import { secretsNeeded } from '#contract/trigger.ts';
import { MAX_SECRET_BYTES, type SecretView } from '#contract/tenancy.ts';
import type { Clock } from '#kit/clock.ts';
import type { FunctionRecord, SealedSecret, Store } from '../store/types.ts';
import { ensureKey, readKey, type SealingKey } from './key.ts';
import { open, seal } from './seal.ts';

/** Secrets of one namespace: enough for 64 for each of many functions, and few enough that a list fits in memory. */
const MAX_SECRETS = 1_000;

export interface SealedSecretsOptions {
  store: Pick<Store, 'reserveSecretVersion' | 'putSecret' | 'getSecret' | 'listSecrets' | 'deleteSecret' | 'listFunctions'>;
  /** File of the key; made with the first secret. */
  keyFile: string;
  clock: Clock;
  /** After a value has changed: instances that have the old one are to be replaced. */
  onChanged: (namespace: string, name: string) => void;
}

/** A value in clear and the version that it is of. */
export interface Revealed {
  value: string;
  version: number;
}

/** The Secrets that the API speaks to, and where the engine gets values from. */
export class SealedSecrets {
  readonly #options: SealedSecretsOptions;
  #key: SealingKey | null = null;

  constructor(options: SealedSecretsOptions) {
    this.#options = options;
  }

  /** A value that it has already changes nothing. Throws FnError invalid, conflict (too many), store-unavailable. */
  async set(namespace: string, name: string, value: string): Promise<SecretView> {
    const { store, clock, onChanged } = this.#options;
    // The schema counts characters; what is kept, and sent to instances, is bytes.
    const bytes = Buffer.byteLength(value);
    if (bytes > MAX_SECRET_BYTES) {
      const detail = `has ${bytes} bytes; at most ${MAX_SECRET_BYTES} are kept`;
      throw new FnError('invalid', `/value: ${detail}.`, { errors: [{ pointer: '/value', detail }] });
    }
    const key = await this.#sealingKey();
    const before = await store.getSecret(namespace, name);
    if (before === null && (await store.listSecrets(namespace)).length >= MAX_SECRETS)
      throw new FnError('conflict', `The namespace ${namespace} has ${MAX_SECRETS} secrets, which is the most: delete some.`);
    if (before !== null && this.#opens(before, key) === value) return this.#view(before);
    const version = await store.reserveSecretVersion(namespace, name);
    const secret: SealedSecret = {
      namespace,
      name,
      version,
      updatedAt: clock.wall(),
      sealed: seal(value, { namespace, name, version }, key),
    };
    await store.putSecret(secret);
    onChanged(namespace, name);
    return this.#view(secret);
  }

  /** null where it does not open: then it is to be replaced, whatever it was. */
  #opens(secret: SealedSecret, key: SealingKey): string | null {
    try {
      return open(secret.sealed, secret, key);
    } catch (error) {
      if (error instanceof FnError) return null;
      throw error;
    }
  }

  async list(namespace: string): Promise<SecretView[]> {
    const functions = await this.#options.store.listFunctions(namespace);
    return (await this.#options.store.listSecrets(namespace)).map((secret) => viewOf(secret, functions));
  }

  async get(namespace: string, name: string): Promise<SecretView> {
    return this.#view(await this.#require(namespace, name));
  }

  async delete(namespace: string, name: string): Promise<void> {
    const { store } = this.#options;
    await this.#require(namespace, name);
    const users = (await store.listFunctions(namespace)).filter(
      (record) => ofEvents(record).includes(name) || serving(record).some((settings) => settings.includes(name)),
    );
    if (users.length > 0) {
      const names = users.map((record) => record.name).join(', ');
      throw new FnError(
        'conflict',
        `Functions use the secret ${name}, in their environment or for their events: ${names}. Deploy them without it, or delete them, first.`,
      );
    }
    if (!(await store.deleteSecret(namespace, name))) throw notFound(namespace, name);
  }

  /** What is wrong with the key of what there is, a sentence for people; null: every secret opens. */
  async fault(): Promise<string | null> {
    const secrets = await this.#options.store.listSecrets();
    if (secrets.length === 0) return null;
    try {
      const key = await this.#openingKey();
      for (const secret of secrets) open(secret.sealed, secret, key);
      return null;
    } catch (error) {
      if (error instanceof FnError) return error.message;
      throw error;
    }
  }

  /** Values in clear, for an instance that is about to be specialised. Throws FnError secret-not-found, which names all that are missing. */
  async reveal(namespace: string, names: readonly string[]): Promise<Map<string, Revealed>> {
    const found = new Map<string, Revealed>();
    if (names.length === 0) return found;
    const sealed = await Promise.all(names.map(async (name) => [name, await this.#options.store.getSecret(namespace, name)] as const));
    const missing = sealed.flatMap(([name, secret]) => (secret === null ? [name] : []));
    if (missing.length > 0) {
      const which = missing.length === 1 ? `is no secret ${missing[0]}` : `are no secrets ${missing.join(', ')}`;
      throw new FnError('secret-not-found', `There ${which} in the namespace ${namespace}: fn secret set NAME sets one.`);
    }
    const key = await this.#openingKey();
    for (const [name, secret] of sealed)
      if (secret !== null) found.set(name, { value: open(secret.sealed, secret, key), version: secret.version });
    return found;
  }

  /** For a new value. Where there are values already, their key is not made anew. */
  async #sealingKey(): Promise<SealingKey> {
    const { store, keyFile } = this.#options;
    this.#key ??= await readKey(keyFile);
    if (this.#key !== null) return this.#key;
    if ((await store.listSecrets()).length > 0) throw keyLost(keyFile);
    this.#key = await ensureKey(keyFile);
    return this.#key;
  }

  async #openingKey(): Promise<SealingKey> {
    this.#key ??= await readKey(this.#options.keyFile);
    if (this.#key === null) throw keyLost(this.#options.keyFile);
    return this.#key;
  }

  async #require(namespace: string, name: string): Promise<SealedSecret> {
    const secret = await this.#options.store.getSecret(namespace, name);
    if (secret === null) throw notFound(namespace, name);
    return secret;
  }

  async #view(secret: SealedSecret): Promise<SecretView> {
    return viewOf(secret, await this.#options.store.listFunctions(secret.namespace));
  }
}

const keyLost = (path: string) =>
  new FnError(
    'store-unavailable',
    `There are secrets, and their key ${path} is not there: restore it from its backup, or delete the secrets and set them again.`,
  );

const notFound = (namespace: string, name: string) =>
  new FnError('secret-not-found', `There is no secret ${name} in the namespace ${namespace}.`);

/** Names of the secrets of each revision that gets traffic. */
function serving({ traffic, revisions }: FunctionRecord): string[][] {
  const numbers = new Set(traffic.map((share) => share.revision));
  return revisions.filter((revision) => numbers.has(revision.number)).map((revision) => revision.settings.secrets);
}

/** Names of the secrets of its triggers and destinations. */
function ofEvents({ access: { triggers, async: settings } }: FunctionRecord): string[] {
  return [...triggers, ...settings.onSuccess, ...settings.onFailure].flatMap(secretsNeeded);
}

function viewOf({ namespace, name, version, updatedAt }: SealedSecret, functions: readonly FunctionRecord[]): SecretView {
  const usedBy = functions
    .filter((record) => ofEvents(record).includes(name) || record.revisions.some((revision) => revision.settings.secrets.includes(name)))
    .map((record) => record.name);
  return { namespace, name, version, updatedAt, usedBy };
}
