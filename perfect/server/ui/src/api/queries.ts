/** What the pages ask for, by name, so that the stream can put what happens into the same answers. */

import { QueryClient, queryOptions } from "@tanstack/react-query";
import { ask } from "./client";
import type { Client, Flow, Lines, Runs, Schedule, WholeRun } from "./types";

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
    queryFn: ({ signal }) => ask<WholeRun>(`/api/runs/${encodeURIComponent(id)}`, { signal }),
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
