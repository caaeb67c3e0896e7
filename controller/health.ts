/** What a controller says to who watches over it: that it lives, that it is of use, that it leads. */
import type { HealthChecks } from '#kit/health-listener.ts';

/**
 * - `/livez`: the process answers.
 * - `/readyz`: it leads and serves, or could begin to: it reaches the store. Who leads stays ready while the store is away, for it serves on.
 * - `/leadz`: it leads and serves: the API and the link are here.
 */
export class Health {
  /** null: it is not open yet. */
  #store: (() => boolean) | null = null;
  #serves = false;

  readonly checks: HealthChecks = {
    '/livez': () => null,
    '/readyz': () => (this.#serves || this.#store?.() === true ? null : 'the store cannot be reached'),
    '/leadz': () => (this.#serves ? null : 'it does not lead'),
  };

  /** `reachable`: whether the store is, at this moment. */
  storeIsOpen(reachable: () => boolean): void {
    this.#store = reachable;
  }

  /** It leads, and listens. */
  serves(): void {
    this.#serves = true;
  }
}
