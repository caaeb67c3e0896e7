/** Tokens: making, knowing and revoking them. All are in memory; the store has them by their SHA-256 only. */
import { createHash, timingSafeEqual } from 'node:crypto';
import { FnError } from '#contract/errors.ts';
import type { InvokeToken } from '#contract/link.ts';
import {
  allows,
  type CreateTokenRequest,
  type CreateTokenResponse,
  covers,
  type Principal,
  type TokenNamespaces,
  type TokenView,
} from '#contract/tenancy.ts';
import type { Clock } from '#kit/clock.ts';
import { newSecret, newTokenSuffix } from '#kit/ids.ts';
import type { TenancyStore, TokenRecord } from '../store/types.ts';

/** Tokens that are good at a time: gateways hold them all, and a message to them has 16 MiB at most. */
const MAX_TOKENS = 10_000;

/** Of those, the most that the namespaces of somebody who has not all of them may have: nobody can take all places. */
const MAX_TOKENS_OF_TENANT = 1_000;
/** Gateways know of a token for so long after it has expired, ms: longer than clocks are commonly wrong by. */
const EXPIRED_KEPT_MS = 25 * 3_600_000;

/** `fn_`, 12 characters of the id, `_`, 256 random bits. */
const TOKEN = /^fn_([a-z0-9]{12})_[A-Za-z0-9_-]{43}$/;

const sha256 = (text: string): Buffer => createHash('sha256').update(text).digest();

export interface TokensOptions {
  store: Pick<TenancyStore, 'addToken' | 'listTokens' | 'revokeToken'>;
  clock: Clock;
  /** The home's own token, where the API is to be reached over TCP. */
  homeToken: string | null;
}

/** Who may enter the home owns all that is in it. */
const OWNER: Principal = { id: 'owner', name: 'owner', scopes: ['admin'], namespaces: '*' };

export class Tokens {
  readonly #options: TokensOptions;
  readonly #home: Buffer | null;
  /** What a token that is not there is compared with: it takes as long as one that is. */
  readonly #nobody = sha256(newSecret());
  /** By id, the oldest first. */
  readonly #tokens = new Map<string, { record: TokenRecord; sha256: Buffer }>();

  constructor(options: TokensOptions) {
    this.#options = options;
    this.#home = options.homeToken === null ? null : sha256(options.homeToken);
  }

  /** Reads them all; call it once, before anything else. */
  async load(): Promise<void> {
    for (const record of (await this.#options.store.listTokens()).toReversed()) this.#keep(record);
  }

  #keep(record: TokenRecord): void {
    this.#tokens.set(record.id, { record, sha256: Buffer.from(record.sha256, 'hex') });
  }

  /** Digests are compared, in constant time: neither the length nor the first wrong character shows. */
  authenticate(authorization: string | undefined): Principal | null {
    const presented = /^bearer +([^\s]+)$/i.exec(authorization ?? '')?.[1];
    const digest = sha256(presented ?? '');
    const isHome = timingSafeEqual(digest, this.#home ?? this.#nobody);
    const id = TOKEN.exec(presented ?? '')?.[1];
    const found = id === undefined ? undefined : this.#tokens.get(`t-${id}`);
    const matches = timingSafeEqual(digest, found?.sha256 ?? this.#nobody);
    if (presented === undefined) return null;
    if (isHome) return OWNER;
    if (!matches || found === undefined || !this.#isGood(found.record)) return null;
    const { name, scopes, namespaces } = found.record;
    return { id: found.record.id, name, scopes, namespaces };
  }

  #isGood({ revokedAt, expiresAt }: TokenRecord): boolean {
    return revokedAt === null && (expiresAt === null || this.#options.clock.wall() < expiresAt);
  }

  #hasJustExpired({ revokedAt, expiresAt }: TokenRecord): boolean {
    const passed = expiresAt === null ? -1 : this.#options.clock.wall() - expiresAt;
    return revokedAt === null && passed >= 0 && passed < EXPIRED_KEPT_MS;
  }

  async create(by: Principal, { name, scopes, namespaces, expiresAt }: CreateTokenRequest): Promise<CreateTokenResponse> {
    requireAdmin(by);
    if (!within(by.namespaces, namespaces)) throw new FnError('forbidden', 'A token can be made only for namespaces that are your own.');
    const most = by.namespaces === '*' ? MAX_TOKENS : MAX_TOKENS_OF_TENANT;
    if (this.#visible(by).filter((record) => this.#isGood(record)).length >= most)
      throw new FnError('conflict', `There are ${most} tokens that are good, which is the most: revoke some.`);
    const suffix = newTokenSuffix();
    const token = `fn_${suffix}_${newSecret()}`;
    const record: TokenRecord = {
      id: `t-${suffix}`,
      name,
      scopes: [...new Set(scopes)],
      namespaces: namespaces === '*' ? '*' : [...new Set(namespaces)],
      createdAt: this.#options.clock.wall(),
      expiresAt,
      revokedAt: null,
      sha256: sha256(token).toString('hex'),
    };
    await this.#options.store.addToken(record);
    this.#keep(record);
    return { ...viewOf(record), token };
  }

  /** The newest first. */
  list(by: Principal): TokenView[] {
    requireAdmin(by);
    return this.#visible(by).map(viewOf).toReversed();
  }

  /** Those that `by` could have made, the oldest first. */
  #visible({ namespaces }: Principal): TokenRecord[] {
    return [...this.#tokens.values()].flatMap(({ record }) => (within(namespaces, record.namespaces) ? record : []));
  }

  /** Throws FnError token-not-found, also for one that `by` could not have made. */
  async revoke(by: Principal, id: string): Promise<TokenView> {
    requireAdmin(by);
    const known = this.#tokens.get(id);
    const missing = () => new FnError('token-not-found', `There is no token ${id}.`);
    if (known === undefined || !within(by.namespaces, known.record.namespaces)) throw missing();
    const record = await this.#options.store.revokeToken(id, this.#options.clock.wall());
    if (record === null) throw missing();
    this.#keep(record);
    return viewOf(record);
  }

  /**
   * Those that may invoke, as gateways know them, who see to their expiry. One that has expired long ago is left out; not at once,
   * for a clock that was ahead for a while may be set back, and gateways are not told then.
   */
  forGateways(): InvokeToken[] {
    const invoking = [...this.#tokens.values()].filter(({ record }) => allows(record.scopes, 'invoke'));
    const good = invoking.filter(({ record }) => this.#isGood(record));
    const expired = invoking.filter(({ record }) => this.#hasJustExpired(record));
    const tokens = [...good, ...expired]
      .slice(0, MAX_TOKENS)
      .map(({ record: { id, sha256: hash, namespaces, expiresAt } }) => ({ id, sha256: hash, namespaces, expiresAt }));
    if (this.#home === null) return tokens;
    return [{ id: OWNER.id, sha256: this.#home.toString('hex'), namespaces: '*', expiresAt: null }, ...tokens];
  }
}

/** The API has asked already; this holds whoever else may call. */
function requireAdmin(by: Principal): void {
  if (!allows(by.scopes, 'admin')) throw new FnError('forbidden', 'Tokens need the scope admin.');
}

/** Whether all of `some` are among `all`. */
function within(all: TokenNamespaces, some: TokenNamespaces): boolean {
  return some === '*' ? all === '*' : some.every((namespace) => covers(all, namespace));
}

function viewOf({ sha256: _sha256, ...view }: TokenRecord): TokenView {
  return view;
}
