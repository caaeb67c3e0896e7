/** Networks that instances may not dial, the same for every driver that can hold them to it. */

/** Never to be dialled, not even when it is listed: this host by other names, link-local (cloud metadata), all that is not unicast. */
export const NEVER = ['0.0.0.0/8', '127.0.0.0/8', '169.254.0.0/16', '224.0.0.0/4', '240.0.0.0/4'] as const;

/** Not the internet, beside NEVER: private (RFC 1918), carrier-grade NAT (6598), protocol assignments (6890), benchmarks (2544). */
export const PRIVATE = ['10.0.0.0/8', '100.64.0.0/10', '172.16.0.0/12', '192.0.0.0/24', '192.168.0.0/16', '198.18.0.0/15'] as const;
