/** Putting what the stream tells into the answers that the pages hold. */

import type { Query, QueryClient, QueryKey } from "@tanstack/react-query";

/** @param change what it makes of an answer; the same object where it does not belong. */
export function putNews<T>(
  queries: QueryClient,
  queryKey: QueryKey,
  change: (old: T) => T,
  exact = false,
): void {
  queries.setQueriesData<T>({ queryKey, exact, predicate: isKept }, (old) =>
    old === undefined ? old : change(old),
  );
}

/** Not one that is asked for anew when it is shown: with news it would pass for up to date. */
function isKept(query: Query): boolean {
  return query.isActive() || !query.state.isInvalidated;
}
