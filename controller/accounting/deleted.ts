/** Which accounts of deleted functions go when there are too many. */

export interface Deleted {
  /** `NAMESPACE/NAME` */
  key: string;
  /** When it was deleted, ms. */
  at: number;
}

/** Keys of those beyond `max`: of the namespace that has most, those that were deleted first. */
export function beyond(deleted: readonly Deleted[], max: number): string[] {
  let surplus = deleted.length - max;
  if (surplus <= 0) return [];
  const lists = [...Map.groupBy(deleted, ({ key }) => key.slice(0, key.indexOf('/'))).values()];
  const sizes = lists.map((list) => list.length);
  const gone = lists.map(() => 0);
  while (surplus > 0) {
    let most = 0;
    for (const [index, size] of sizes.entries()) if (size > sizes[most]!) most = index;
    // Down to who has the next most at once, or one: ten thousand are not counted through one by one.
    const next = Math.max(0, ...sizes.filter((size) => size < sizes[most]!));
    const alone = sizes.filter((size) => size === sizes[most]).length === 1;
    const count = alone ? Math.min(surplus, sizes[most]! - next) : 1;
    sizes[most]! -= count;
    gone[most]! += count;
    surplus -= count;
  }
  return lists.flatMap((list, index) =>
    gone[index] === 0
      ? []
      : list
          .toSorted((a, b) => a.at - b.at)
          .slice(0, gone[index])
          .map(({ key }) => key),
  );
}
