/** Runs `close` once on SIGTERM or SIGINT, then exits; a second signal or the deadline exits at once. */
export function onShutdown(close: (signal: NodeJS.Signals) => Promise<void>, { deadlineMs }: { deadlineMs: number }): void {
  let closing = false;
  const handle = (signal: NodeJS.Signals) => {
    if (closing) process.exit(130);
    closing = true;
    setTimeout(() => process.exit(1), deadlineMs).unref();
    close(signal).then(
      () => process.exit(0),
      (error: unknown) => {
        process.stderr.write(`shutdown failed: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
        process.exit(1);
      },
    );
  };
  process.on('SIGTERM', handle);
  process.on('SIGINT', handle);
}
