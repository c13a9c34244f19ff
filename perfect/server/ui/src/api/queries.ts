/** What the pages ask for, by name, so that the stream can put what happens into the same answers. */

import { infiniteQueryOptions, QueryClient, queryOptions } from "@tanstack/react-query";
import { ask } from "./client";
import type {
  Client,
  Ended,
  Flow,
  FlowStatistics,
  Run,
  Runs,
  Schedule,
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
      retry: 1,
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
  queryFn: ({ signal }) => ask<Flow[]>("/api/engine/flows", { signal }),
});

/** @param search the query of `GET /api/runs`, which is that of the page, too. */
export const runs = (search: string) =>
  queryOptions({
    queryKey: ["runs", search],
    queryFn: ({ signal }) => ask<Runs>(`/api/runs?${search}`, { signal }),
  });

export const run = (id: string) =>
  queryOptions({
    queryKey: ["run", id],
    queryFn: ({ signal }) =>
      ask<Run>(`/api/runs/${encodeURIComponent(id)}?tasks=0&lines=0`, { signal }),
  });

const TASKS_AT_ONCE = 20_000;

/** @param search which tasks; "" for all, in the order of their calls. */
export const tasks = (id: string, search = "", limit = TASKS_AT_ONCE) =>
  infiniteQueryOptions({
    queryKey: ["tasks", id, search, limit],
    queryFn: ({ signal, pageParam }) =>
      ask<Tasks>(
        `/api/runs/${encodeURIComponent(id)}/tasks?${search}&after=${pageParam}&limit=${limit}`,
        { signal },
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
  queryFn: async ({ signal }) =>
    (await ask<{ clients: Client[] }>("/api/clients", { signal })).clients,
});

export const schedules = queryOptions({
  queryKey: ["schedules"],
  queryFn: async ({ signal }) =>
    (await ask<{ schedules: Schedule[] }>("/api/schedules?limit=1000", { signal })).schedules,
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
