import {
  type InfiniteData,
  type UseInfiniteQueryResult,
  useInfiniteQuery,
} from "@tanstack/react-query";
import { useMemo } from "react";
import { tasks as tasksQuery } from "../api/queries";
import type { Run, State, Task, Tasks } from "../api/types";
import { counted } from "../lib/tasks";

export interface TasksOfRun {
  /** What is read of them: all, unless `partial`. */
  all: Task[];
  partial: boolean;
  loading: boolean;
  error: Error | null;
  states: Partial<Record<State, number>>;
  more: () => void;
}

/** @param search which tasks, "" for all. */
export function useTasks(run: Run, search = "", enabled = true): TasksOfRun {
  return useFound(run, search, useInfiniteQuery({ ...tasksQuery(run.id, search), enabled }));
}

const LAST = 2_000;

/** The last tasks of a run that has very many. @param total how many it has; null: they are not wanted. */
export function useLastTasks(run: Run, total: number | null): TasksOfRun {
  const after = Math.max(-1, (total ?? 0) - LAST - 1);
  const from = `after ${after}`;
  const { queryKey, ...query } = tasksQuery(run.id, "", LAST);
  const found = useInfiniteQuery({
    ...query,
    queryKey: [...queryKey.slice(0, 2), from, LAST],
    initialPageParam: after,
    enabled: total !== null,
  });
  return useFound(run, from, found);
}

type Found = UseInfiniteQueryResult<InfiniteData<Tasks>>;

/** @param part which tasks these are, "" for all. */
function useFound(run: Run, part: string, found: Found): TasksOfRun {
  const pages = found.data?.pages;
  const partial = found.hasNextPage;
  // When a run ends, the tasks that it never called are gone.
  const known = Math.max(run.taskCount, 0);
  const all = useMemo(() => {
    const tasks = pages?.flatMap((page) => page.tasks) ?? [];
    return run.endTime !== null && tasks.some((task) => task.index >= known)
      ? tasks.filter((task) => task.index < known)
      : tasks;
  }, [pages, known, run.endTime]);
  const states = useMemo(
    () => (partial || part !== "" ? (pages?.at(-1)?.states ?? {}) : counted(all)),
    [all, pages, partial, part],
  );
  return {
    all,
    partial,
    loading: found.isFetching,
    error: found.error,
    states,
    more: () => void (found.hasNextPage && !found.isFetching && found.fetchNextPage()),
  };
}
