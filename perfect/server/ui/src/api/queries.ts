/** What the pages ask for, by name, so that the stream can put what happens into the same answers. */

import { infiniteQueryOptions, QueryClient, queryOptions } from "@tanstack/react-query";
import * as events from "../lib/events";
import { put } from "../lib/tasks";
import { ask, Refused } from "./client";
import { withNews } from "./meanwhile";
import type {
  Client,
  Ended,
  Flow,
  FlowStatistics,
  Run,
  Runs,
  Schedule,
  Task,
  Tasks,
  Version,
  WholeStatistics,
  WholeTask,
} from "./types";

export const queryClient = new QueryClient({
  defaultOptions: {
    // The stream says when something is out of date.
    queries: {
      staleTime: Number.POSITIVE_INFINITY,
      gcTime: 60_000,
      // what the backend refuses it refuses again
      retry: (times, error) =>
        times < 1 && !(error instanceof Refused && error.status >= 400 && error.status < 500),
      refetchOnWindowFocus: false,
    },
  },
});

export const version = queryOptions({
  queryKey: ["version"],
  queryFn: ({ signal }) => ask<Version>("/api/version", { signal }),
});

export const flows = queryOptions({
  queryKey: ["flows"],
  queryFn: ({ signal }) =>
    withNews("flow", ask<Flow[]>("/api/engine/flows", { signal }), events.withFlow),
});

/** @param search the query of `GET /api/runs`, which is that of the page, too. */
export const runs = (search: string) =>
  queryOptions({
    queryKey: ["runs", search],
    queryFn: ({ signal }) =>
      withNews("run", ask<Runs>(`/api/runs?${search}`, { signal }), (old, told: Run) =>
        events.withRun(old, told),
      ),
  });

export const run = (id: string) =>
  queryOptions({
    queryKey: ["run", id],
    queryFn: ({ signal }) =>
      withNews(
        "run",
        ask<Run>(`/api/runs/${encodeURIComponent(id)}?tasks=0&lines=0`, { signal }),
        (old, told: Run) => (told.id === id ? { ...old, ...told } : old),
      ),
  });

const TASKS_AT_ONCE = 20_000;

/** @param search which tasks; "" for all, in the order of their calls. */
export const tasks = (id: string, search = "", limit = TASKS_AT_ONCE) =>
  infiniteQueryOptions({
    queryKey: ["tasks", id, search, limit],
    queryFn: ({ signal, pageParam }) =>
      withNews(
        "task",
        ask<Tasks>(
          `/api/runs/${encodeURIComponent(id)}/tasks?${search}&after=${pageParam}&limit=${limit}`,
          { signal },
        ),
        (page, told: { runId: string; tasks: Task[] }) => {
          if (told.runId !== id) return page;
          const pages = put([page], told.tasks, search === "") ?? put([page], told.tasks, false);
          return pages?.[0] ?? page;
        },
      ),
    initialPageParam: -1,
    getNextPageParam: (last) => last.next,
  });

export const task = (id: string, index: number) =>
  queryOptions({
    queryKey: ["task", id, index],
    queryFn: ({ signal }) =>
      ask<WholeTask>(`/api/runs/${encodeURIComponent(id)}/tasks/${index}`, { signal }),
  });

export const clients = queryOptions({
  queryKey: ["clients"],
  queryFn: ({ signal }) =>
    withNews(
      "client",
      ask<{ clients: Client[] }>("/api/clients", { signal }).then(({ clients }) => clients),
      events.withClient,
    ),
});

export const schedules = queryOptions({
  queryKey: ["schedules"],
  queryFn: ({ signal }) =>
    withNews(
      "schedule",
      ask<{ schedules: Schedule[] }>("/api/schedules?limit=1000", { signal }).then(
        ({ schedules }) => schedules,
      ),
      events.withSchedule,
    ),
});

export const flowStatistics = queryOptions({
  queryKey: ["statistics"],
  queryFn: async ({ signal }) =>
    (await ask<{ flows: FlowStatistics[] }>("/api/statistics/flows", { signal })).flows,
});

export const statisticsOf = (flow: string) =>
  queryOptions({
    queryKey: ["statistics", flow],
    queryFn: ({ signal }) =>
      ask<WholeStatistics>(`/api/statistics/flows/${encodeURIComponent(flow)}`, { signal }),
  });

export const taskHistory = (flow: string, task: string) =>
  queryOptions({
    queryKey: ["statistics", flow, task],
    queryFn: ({ signal }) =>
      ask<{ history: Ended[] }>(
        `/api/statistics/task-history/${encodeURIComponent(flow)}/${encodeURIComponent(task)}?limit=200`,
        { signal },
      ),
  });
