import { expect, it } from 'vitest';
import type { LogEntry } from '#contract/api.ts';
import type { LogOptions } from './client.ts';
import { CliError, EXIT } from './errors.ts';
import { readLogs } from './log-reader.ts';

const entry = (t: number, msg: string): LogEntry => ({
  t,
  level: 'info',
  stream: 'out',
  msg,
  revision: 'default/x@1',
  instance: 'i-abcdefghijkl',
});
const unreachable = () => new CliError('gone', { exitCode: EXIT.unreachable });

/** A client whose connections each give these lines, and then break. */
function client(connections: LogEntry[][], asked: LogOptions[]) {
  return {
    async *logs(_namespace: string, _name: string, options: LogOptions): AsyncIterable<LogEntry> {
      asked.push(options);
      const lines = connections.shift();
      if (lines === undefined) throw unreachable();
      yield* lines;
      throw unreachable();
    },
  };
}

it('following goes on where the connection broke, and no line comes twice', async () => {
  const asked: LogOptions[] = [];
  const stop = new AbortController();
  const lines: string[] = [];
  const source = client(
    [
      [entry(1, 'a'), entry(2, 'b')],
      [entry(2, 'b'), entry(2, 'c'), entry(3, 'd')],
    ],
    asked,
  );
  for await (const { msg } of readLogs(source, 'default', 'x', { follow: true, limit: 10, grep: 'g' }, stop.signal)) {
    lines.push(msg);
    if (msg === 'd') stop.abort();
  }
  expect(lines).toEqual(['a', 'b', 'c', 'd']);
  expect(asked).toEqual([
    { follow: true, limit: 10, grep: 'g' },
    { follow: true, grep: 'g', since: 2 },
  ]);
});

it('a platform that is not there at first is told at once', async () => {
  const reading = async () => {
    for await (const _ of readLogs(client([], []), 'default', 'x', { follow: true }, new AbortController().signal));
  };
  await expect(reading()).rejects.toThrow('gone');
});
