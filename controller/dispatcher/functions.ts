/** What the controller said of functions and secrets, and what follows from it. */
import { FnError } from '#contract/errors.ts';
import { AsyncSettings, type Destination, SECRET_REFERENCE } from '#contract/events.ts';
import type { Trigger } from '#contract/trigger.ts';
import type { RetryPolicy } from '../core/events.ts';
import type { FunctionEvents, SecretTexts } from './types.ts';

/** Of a function that is not known any more: what waits for it is delivered once, to hear that it is gone. */
const UNKNOWN: AsyncSettings = AsyncSettings.parse({});

/** How an event of a function is tried and kept: by the trigger that brought it, where one did. */
export interface EventPolicy extends RetryPolicy {
  maxAgeMs: number;
  /** How long state and result can be read, ms. */
  resultMs: number;
  deadLetterMs: number;
  onSuccess: readonly Destination[];
  onFailure: readonly Destination[];
  /** Takes the place of the function's own dead-letter queue; null: that one. */
  deadLetter: Destination | null;
}

export const nameOf = (namespace: string, name: string): string => `${namespace}/${name}`;

export class FunctionTable {
  readonly #functions = new Map<string, FunctionEvents>();
  #secrets: SecretTexts = {};

  set(functions: readonly FunctionEvents[]): void {
    for (const one of functions) this.#functions.set(nameOf(one.namespace, one.name), one);
  }

  remove(namespace: string, name: string): void {
    this.#functions.delete(nameOf(namespace, name));
  }

  get(namespace: string, name: string): FunctionEvents | null {
    return this.#functions.get(nameOf(namespace, name)) ?? null;
  }

  get all(): Iterable<FunctionEvents> {
    return this.#functions.values();
  }

  /** Takes all of them as they are now. Returns the keys of those that changed, came or went. */
  setSecrets(texts: SecretTexts): Set<string> {
    const before = this.#secrets;
    this.#secrets = texts;
    const keys = new Set([...Object.keys(before), ...Object.keys(texts)]);
    return new Set([...keys].filter((key) => before[key] !== texts[key]));
  }

  /** Throws FnError secret-not-found. */
  secret(namespace: string, name: string): string {
    const key = nameOf(namespace, name);
    const value = Object.hasOwn(this.#secrets, key) ? this.#secrets[key] : undefined;
    if (value === undefined)
      throw new FnError('secret-not-found', `The secret ${name} of ${namespace} is not there: set it with fn secret set ${name}.`);
    return value;
  }

  /** With its secrets filled in: within a URL they are escaped, and `sasl.password` is the password itself. Throws FnError secret-not-found. */
  fill<T extends Trigger | Destination>(namespace: string, of: T): T {
    const filled = { ...of };
    if ('url' in filled) filled.url = this.#filled(namespace, filled.url, encodeURIComponent);
    if ('sasl' in filled && filled.sasl !== null) {
      const { mechanism, username, password } = filled.sasl;
      filled.sasl = {
        mechanism,
        username: this.#filled(namespace, username, (text) => text),
        password: this.secret(namespace, password),
      };
    }
    return filled;
  }

  #filled(namespace: string, text: string, escape: (value: string) => string): string {
    return text.replaceAll(SECRET_REFERENCE, (_all, name: string) => escape(this.secret(namespace, name)));
  }

  policy(namespace: string, name: string, trigger: string | null): EventPolicy {
    const of = this.get(namespace, name);
    const settings = of?.async ?? UNKNOWN;
    const own = {
      maxAttempts: settings.maxAttempts,
      maxAgeMs: settings.maxAgeSeconds * 1_000,
      retryBaseMs: settings.retryBaseSeconds * 1_000,
      retryMaxMs: settings.retryMaxSeconds * 1_000,
      resultMs: settings.resultSeconds * 1_000,
      deadLetterMs: settings.deadLetterSeconds * 1_000,
      onSuccess: settings.onSuccess,
      onFailure: settings.onFailure,
      deadLetter: null,
    };
    if (trigger === null) return own;
    const by = of?.triggers.find((one) => one.name === trigger);
    // Its settings went with it; what it brought is still tried.
    if (by === undefined) return { ...own, onSuccess: [], onFailure: [] };
    return {
      ...own,
      maxAttempts: by.maxAttempts,
      maxAgeMs: by.maxAgeSeconds * 1_000,
      retryBaseMs: by.retryBaseSeconds * 1_000,
      retryMaxMs: by.retryMaxSeconds * 1_000,
      deadLetterMs: by.deadLetterSeconds * 1_000,
      onSuccess: [],
      onFailure: [],
      deadLetter: by.deadLetter,
    };
  }
}
