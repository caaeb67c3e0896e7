/** The lines of a watch: one event each. */
import { z } from 'zod';
import { LineSplitter } from '#kit/ndjson.ts';
import type { WatchEvent } from './types.ts';

/** Longest event that is believed, characters: an object has 1.5 MiB at most. */
const MAX_EVENT_LENGTH = 8 * 1024 * 1024;

const Line = z.object({ type: z.enum(['ADDED', 'MODIFIED', 'DELETED', 'BOOKMARK', 'ERROR']), object: z.unknown() });
const Bookmark = z.object({ metadata: z.object({ resourceVersion: z.string() }) });

const TYPES = { ADDED: 'added', MODIFIED: 'modified', DELETED: 'deleted' } as const;

/** `failure` makes the error of the Status that the server sends where it gives up. */
export async function* readWatch<T>(
  bytes: AsyncIterable<Buffer>,
  parse: (object: unknown) => T,
  failure: (status: unknown) => Error,
): AsyncGenerator<WatchEvent<T>> {
  const lines = new LineSplitter(MAX_EVENT_LENGTH);
  for await (const chunk of bytes) {
    for (const line of lines.push(chunk)) {
      const { type, object } = Line.parse(JSON.parse(line));
      if (type === 'ERROR') throw failure(object);
      if (type === 'BOOKMARK') yield { type: 'bookmark', resourceVersion: Bookmark.parse(object).metadata.resourceVersion };
      else yield { type: TYPES[type], object: parse(object) };
    }
  }
}
