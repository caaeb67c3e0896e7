/** Lines of a function's log, as they are kept and as the API gives them. */
import { z } from 'zod';
import { InstanceId, RevisionKey } from './names.ts';

export const LogLevel = z.enum(['debug', 'info', 'warn', 'error']);
export type LogLevel = z.infer<typeof LogLevel>;

/** A line of GET …/logs: newline-delimited JSON. */
export const LogEntry = z.object({
  /** Milliseconds since 1970. */
  t: z.number(),
  level: LogLevel,
  stream: z.enum(['out', 'err', 'sys']),
  msg: z.string(),
  revision: RevisionKey,
  instance: InstanceId,
  req: z.string().optional(),
});
export type LogEntry = z.infer<typeof LogEntry>;

/** Query of GET …/logs. */
export const LogQuery = z.strictObject({
  follow: z.stringbool().optional(),
  /** Milliseconds since 1970: from, inclusive, and to, exclusive. */
  since: z.coerce.number().int().min(0).optional(),
  until: z.coerce.number().int().min(0).optional(),
  /** The newest so many lines of those that match. */
  limit: z.coerce.number().int().min(1).max(10_000).optional(),
  /** Lines of one request. */
  request: z.string().min(1).max(200).optional(),
  /** This level and those above it. */
  level: LogLevel.optional(),
  /** Lines of one revision, by its number. */
  revision: z.coerce.number().int().positive().optional(),
  /** Text that the message must contain, as it stands. */
  grep: z.string().min(1).max(1_000).optional(),
});
export type LogQuery = z.infer<typeof LogQuery>;

/** How much of a function's log there is, and what was not kept. */
export const LogStats = z.object({
  bytes: z.number().int(),
  /** Lines that were never kept: over the rate, over the driver's limit, a full disk. Since the function was first deployed. */
  droppedLines: z.number().int(),
  /** Time of the oldest line, milliseconds since 1970. */
  oldest: z.number().nullable(),
});
export type LogStats = z.infer<typeof LogStats>;
