/** What the stream tells of the tasks of a run. */

import type { InfiniteData, QueryClient } from "@tanstack/react-query";
import { put } from "../lib/tasks";
import type { Task, Tasks } from "./types";

// ms: what belongs into a filtered list is asked for again at most so often
const FILTERED_EVERY = 3000;

const due = new Set<string>();

export function tellOfTasks(queries: QueryClient, runId: string, told: Task[]): void {
  for (const [queryKey] of queries.getQueriesData({ queryKey: ["tasks", runId] })) {
    const old = queries.getQueryData<InfiniteData<Tasks>>(queryKey);
    if (old === undefined) continue;
    const pages = put(old.pages, told, isWhole(queryKey));
    if (pages === null) void queries.invalidateQueries({ queryKey });
    else queries.setQueryData<InfiniteData<Tasks>>(queryKey, { ...old, pages });
  }
  for (const { index } of told)
    void queries.invalidateQueries({ queryKey: ["task", runId, index], exact: true });
  if (due.has(runId)) return;
  due.add(runId);
  setTimeout(() => {
    due.delete(runId);
    void queries.invalidateQueries({
      queryKey: ["tasks", runId],
      predicate: (query) => !isWhole(query.queryKey),
    });
  }, FILTERED_EVERY);
}

/** Whether a list is one of all tasks. */
function isWhole(queryKey: readonly unknown[]): boolean {
  return queryKey[2] === "";
}
