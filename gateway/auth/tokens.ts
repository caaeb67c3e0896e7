/** Tokens of the platform that may invoke, as the controller told them: by their SHA-256. */
import { hash } from 'node:crypto';
import type { InvokeToken } from '#contract/link.ts';
import { covers } from '#contract/tenancy.ts';

export class InvokeTokens {
  #tokens: ReadonlyMap<string, InvokeToken> | null = null;

  /** Takes the place of all of them: what is not among them is revoked from now on. */
  replace(tokens: readonly InvokeToken[]): void {
    this.#tokens = new Map(tokens.map((token) => [token.sha256, token]));
  }

  /** Has the controller said which there are? Before that nobody can be told off. */
  get known(): boolean {
    return this.#tokens !== null;
  }

  /**
   * The token, where it may invoke in this namespace at `now` (ms since 1970); else null. What is looked
   * up is a hash, so the time that it takes says nothing about the tokens there are.
   */
  check(token: string, namespace: string, now: number): InvokeToken | null {
    const found = this.#tokens?.get(hash('sha256', token, 'hex'));
    if (found === undefined || (found.expiresAt !== null && found.expiresAt <= now)) return null;
    return covers(found.namespaces, namespace) ? found : null;
  }
}
