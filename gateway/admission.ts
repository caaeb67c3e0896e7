/** One request that has to be let in, from its question to its end. Public functions without limits have none. */
import type { Denial, Gatekeeper, Verdict } from './gatekeeper.ts';
import type { RequestHead } from './headers.ts';
import type { RouteEntry } from './routes.ts';

export class Admission {
  readonly #gatekeeper: Gatekeeper;
  readonly #namespace: string;
  readonly #authenticated: boolean;
  #over = false;
  #counted = false;

  /** Without `authenticated` it is not asked who calls. */
  constructor(gatekeeper: Gatekeeper, namespace: string, authenticated = true) {
    this.#gatekeeper = gatekeeper;
    this.#namespace = namespace;
    this.#authenticated = authenticated;
  }

  /** Tells, at once or later, why it does not come in; null: it does. Not once the request is over. */
  ask(entry: RouteEntry, head: RequestHead, remote: string, tell: (denial: Denial | null) => void): void {
    const judge = (verdict: Verdict): void => {
      this.#counted = verdict === 'counted';
      // The client went while its token was looked at.
      if (this.#over) this.#uncount();
      else tell(typeof verdict === 'string' ? null : verdict);
    };
    const verdict = this.#authenticated ? this.#gatekeeper.check(entry, head, remote) : this.#gatekeeper.checkLimits(entry, head, remote);
    if (!(verdict instanceof Promise)) judge(verdict);
    else verdict.then(judge).catch((error: unknown) => tell({ code: 'internal', detail: `the gateway failed: ${String(error)}` }));
  }

  /** The request is over. Idempotent. */
  leave(): void {
    this.#over = true;
    this.#uncount();
  }

  #uncount(): void {
    if (this.#counted) this.#gatekeeper.leave(this.#namespace);
    this.#counted = false;
  }
}
