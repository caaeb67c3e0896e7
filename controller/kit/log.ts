/** Logs of the platform's own processes: one flat JSON line per event, to stderr. */
import { pino } from 'pino';

export interface Log {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/** Of what cannot be written now (the disk is full) so much is kept, characters; beyond it what is new is dropped. */
const MAX_UNWRITTEN = 1_048_576;

export type LogLevel = 'debug' | 'info' | 'warn' | 'error' | 'silent';

/** `process` is the part of the platform that speaks: gateway, controller, supervisor. */
export function createLog(process: string, level: LogLevel): Log {
  const stderr = pino.destination({ fd: 2, sync: true, maxLength: MAX_UNWRITTEN });
  // There is nobody left to be told, and a process that cannot say what it does must go on doing it: without a listener it would end.
  stderr.on('error', () => {});
  return pino(
    {
      level,
      base: { process },
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      formatters: { level: (label) => ({ level: label }) },
    },
    stderr,
  );
}

export const silentLog: Log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
