import { useInfiniteQuery } from "@tanstack/react-query";
import { useMemo } from "react";
import { tasks as tasksQuery } from "../api/queries";
import type { Run, State, Task } from "../api/types";
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
  const found = useInfiniteQuery({ ...tasksQuery(run.id, search), enabled });
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
    () => (partial || search !== "" ? (pages?.at(-1)?.states ?? {}) : counted(all)),
    [all, pages, partial, search],
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
