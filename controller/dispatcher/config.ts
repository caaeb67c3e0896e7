/** Settings of the dispatcher: one schema, with a default and a reason for each. */
import { z } from 'zod';
import { parseStoreUrl } from '#kit/store-url.ts';

export const DispatcherSettings = z.object({
  /** Folder with all that lasts. Set by the controller. */
  FN_HOME: z.string().min(1),
  /** `sqlite`: HOME/events.db. Or redis://… of the Redis that events are kept in. */
  FN_STORE: z
    .string()
    .default('sqlite')
    .transform((text, context) => {
      try {
        return parseStoreUrl(text);
      } catch (error) {
        context.addIssue({ code: 'custom', message: error instanceof Error ? error.message : String(error) });
        return z.NEVER;
      }
    }),
  /** Group of the gateway's process, where it has a uid of its own: it may connect. */
  FN_GATEWAY_GID: z.coerce.number().int().positive().optional(),
  /** HOST:PORT where gateways of other hosts dial, beside the socket. With FN_LINK_TOKEN_FILE; and FN_LINK_TLS_DIR for TLS. */
  FN_EVENTS_LISTEN: z
    .string()
    .regex(/^(?:\[[0-9a-fA-F:]+\]|[^:]+):\d{1,5}$/, 'must be HOST:PORT')
    .optional(),
  FN_LINK_TOKEN_FILE: z.string().regex(/^\//, 'must be an absolute path').optional(),
  FN_LINK_TLS_DIR: z.string().regex(/^\//, 'must be an absolute path').optional(),
  FN_LOG_LEVEL: z.enum(['debug', 'info', 'warn', 'error', 'silent']).default('info'),
  /** After the controller is gone, what runs may go on for so long, ms: then it is tried again by the next dispatcher. */
  FN_DISPATCHER_GRACE_MS: z.coerce.number().int().min(0).max(60_000).default(1_000),
});
export type DispatcherSettings = z.infer<typeof DispatcherSettings>;

/** Reads the settings. Throws an Error whose message names each variable that is wrong. */
export function readSettings(env: NodeJS.ProcessEnv): DispatcherSettings {
  const parsed = DispatcherSettings.safeParse(env);
  if (parsed.success) return parsed.data;
  throw new Error(`settings are wrong:\n${parsed.error.issues.map((issue) => `  ${issue.path.join('.')}: ${issue.message}`).join('\n')}`);
}
