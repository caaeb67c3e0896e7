/** Where triggers and destinations may dial. */
export { resolverFor, type LookUp } from '#kit/resolve-host.ts';
