/** Maps with at most `limit` at a time. Throws the first failure, when all that were begun have come to their end. */
export async function inParallel<T, R>(items: readonly T[], limit: number, act: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  for (let from = 0; from < items.length; from += limit) {
    const settled = await Promise.allSettled(items.slice(from, from + limit).map(act));
    for (const one of settled) {
      if (one.status === 'rejected') throw one.reason;
      results.push(one.value);
    }
  }
  return results;
}
