/**
 * Cross-origin requests by configuration (Fetch standard, CORS protocol): the gateway answers preflights
 * by itself and sets the headers of answers; what a function says about it is replaced.
 */
import type { Cors } from '#contract/access.ts';
import { dropHeaders, valueOf } from './flat-headers.ts';

const HEADER_LIST = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:[ \t]*,[ \t]*[!#$%&'*+.^_`|~0-9A-Za-z-]+)*$/;
/** Longest list of headers that is repeated to who asked for it. */
const MAX_ASKED_HEADERS = 2_048;

/** A question of a browser's, before it sends what is asked about. */
export const isPreflight = (method: string, flat: readonly string[]): boolean =>
  method === 'OPTIONS' && valueOf(flat, 'origin') !== undefined && valueOf(flat, 'access-control-request-method') !== undefined;

export class CorsRules {
  readonly #cors: Cors;
  readonly #any: boolean;
  readonly #exact: ReadonlySet<string>;
  /** `https://` and `.example.com` for `https://*.example.com` */
  readonly #wildcards: readonly { scheme: string; suffix: string }[];
  readonly #methods: string;
  readonly #headers: string;
  readonly #expose: string;

  constructor(cors: Cors) {
    this.#cors = cors;
    this.#any = cors.origins.includes('*');
    this.#exact = new Set(cors.origins);
    this.#wildcards = cors.origins.flatMap((origin) => {
      const [scheme, suffix] = origin.split('*');
      return origin === '*' || suffix === undefined ? [] : [{ scheme: scheme!, suffix }];
    });
    this.#methods = cors.methods.join(', ');
    this.#headers = cors.headers.filter((name) => name !== '*').join(', ');
    this.#expose = cors.exposeHeaders.join(', ');
  }

  /** What Access-Control-Allow-Origin says to this origin; null where it is not allowed. */
  #allowed(origin: string | undefined): string | null {
    if (this.#any) return '*';
    if (origin === undefined) return null;
    if (!origin.includes('*') && this.#exact.has(origin)) return origin;
    const one = this.#wildcards.some(({ scheme, suffix }) => {
      if (!origin.startsWith(scheme) || !origin.endsWith(suffix)) return false;
      return /^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?$/.test(origin.slice(scheme.length, origin.length - suffix.length));
    });
    return one ? origin : null;
  }

  /** Headers of the answer to a preflight. Where the origin may not, none that allows anything: the browser refuses by itself. */
  preflight(origin: string, askedHeaders: string | undefined): string[] {
    const flat: string[] = ['vary', 'Origin, Access-Control-Request-Method, Access-Control-Request-Headers'];
    const allowed = this.#allowed(origin);
    if (allowed === null) return flat;
    flat.push('access-control-allow-origin', allowed, 'access-control-allow-methods', this.#methods);
    const headers = this.#allowedHeaders(askedHeaders);
    if (headers !== '') flat.push('access-control-allow-headers', headers);
    if (this.#cors.credentials) flat.push('access-control-allow-credentials', 'true');
    flat.push('access-control-max-age', String(this.#cors.maxAgeSeconds));
    return flat;
  }

  /** `*` repeats what was asked for: as a word it would not cover Authorization, nor go with credentials. */
  #allowedHeaders(asked: string | undefined): string {
    if (!this.#cors.headers.includes('*')) return this.#headers;
    return asked !== undefined && asked.length <= MAX_ASKED_HEADERS && HEADER_LIST.test(asked) ? asked : this.#headers;
  }

  /** Sets the headers of an actual answer, in place (flat list, lower-case names). */
  apply(flat: string[], origin: string | undefined): void {
    dropHeaders(flat, (name) => name.startsWith('access-control-'));
    if (!this.#any) flat.push('vary', 'Origin');
    const allowed = this.#allowed(origin);
    // `*` is said to everybody: a cache may keep the answer for another who asks from elsewhere.
    if (allowed === null) return;
    flat.push('access-control-allow-origin', allowed);
    if (this.#cors.credentials) flat.push('access-control-allow-credentials', 'true');
    if (this.#expose !== '') flat.push('access-control-expose-headers', this.#expose);
  }
}
