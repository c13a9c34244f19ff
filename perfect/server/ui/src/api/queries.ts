/** What the pages ask for, by name, so that the stream can put what happens into the same answers. */

import { infiniteQueryOptions, QueryClient, queryOptions } from "@tanstack/react-query";
import { ask } from "./client";
import type { Client, Flow, Lines, Run, Runs, Schedule, Tasks, WholeTask } from "./types";

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

export const lines = (id: string, search: string) =>
  queryOptions({
    queryKey: ["lines", id, search],
    queryFn: ({ signal }) =>
      ask<Lines>(`/api/runs/${encodeURIComponent(id)}/logs?${search}`, { signal }),
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
