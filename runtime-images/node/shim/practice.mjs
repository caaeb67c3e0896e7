/** A module to load before the function's: the first one that is imported by its path costs more than any after it. */
export default { fetch: () => null };
