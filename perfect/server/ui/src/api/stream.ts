/** The one stream of events, and what it makes of the answers that the pages hold. */

import type { QueryClient } from "@tanstack/react-query";
import { useSyncExternalStore } from "react";
import { BASE } from "./client";
import type { Client, Flow, Line, Run, Runs, Schedule, Task, WholeRun } from "./types";

export type Connection = "connecting" | "live" | "away";

const LISTS_EVERY = 1000; // ms: runs come and go; a list is asked for again at most so often

export class Feed {
  state: Connection = "connecting";
  private source: EventSource | null = null;
  private run: string | null = null;
  private listeners = new Set<() => void>();
  private lineListeners = new Set<(lines: Line[], skipped: boolean) => void>();
  private listsDue: ReturnType<typeof setTimeout> | null = null;

  constructor(private queries: QueryClient) {}

  /** Follow everything, or one run with its tasks and lines. */
  follow(run: string | null): void {
    if (this.source !== null && this.run === run) return;
    this.run = run;
    this.source?.close();
    this.say("connecting");
    const source = new EventSource(
      `${BASE}/api/stream${run === null ? "" : `?run=${encodeURIComponent(run)}`}`,
    );
    this.source = source;
    const on = <T>(kind: string, take: (data: T) => void) =>
      source.addEventListener(kind, (event) =>
        take(JSON.parse((event as MessageEvent<string>).data) as T),
      );
    // What happened before is read again, unless the browser resumed where it was.
    on("ready", () => {
      this.say("live");
      void this.queries.invalidateQueries();
    });
    on("reset", () => void this.queries.invalidateQueries());
    on<Run>("run", (run) => this.onRun(run));
    on<Flow & { deleted?: boolean }>("flow", (flow) => this.onFlow(flow));
    on<Client>("client", (client) => this.onClient(client));
    on<Schedule & { deleted?: boolean }>("schedule", (schedule) => this.onSchedule(schedule));
    on<{ runId: string; tasks: Task[] }>("task", ({ runId, tasks }) => this.onTasks(runId, tasks));
    on<{ runId: string; lines: Line[]; skipped?: boolean }>("log", ({ lines, skipped }) => {
      for (const listener of this.lineListeners) listener(lines, Boolean(skipped));
    });
    source.onopen = () => this.say("live");
    source.onerror = () => this.say("away");
  }

  onLines(listener: (lines: Line[], skipped: boolean) => void): () => void {
    this.lineListeners.add(listener);
    return () => this.lineListeners.delete(listener);
  }

  subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  private say(state: Connection): void {
    this.state = state;
    for (const listener of this.listeners) listener();
  }

  private onRun(run: Run & { deleted?: boolean }): void {
    this.queries.setQueryData<WholeRun>(["run", run.id], (old) =>
      old === undefined ? old : { ...old, ...run },
    );
    let shown = false;
    this.queries.setQueriesData<Runs>({ queryKey: ["runs"] }, (old) => {
      if (old === undefined) return old;
      const at = old.runs.findIndex((one) => one.id === run.id);
      if (at < 0) return old;
      shown = true;
      const runs = old.runs.slice();
      runs[at] = { ...runs[at], ...run };
      return { ...old, runs };
    });
    if (!shown || run.deleted) this.askForLists();
  }

  private askForLists(): void {
    this.listsDue ??= setTimeout(() => {
      this.listsDue = null;
      void this.queries.invalidateQueries({ queryKey: ["runs"] });
    }, LISTS_EVERY);
  }

  private onFlow(flow: Flow & { deleted?: boolean }): void {
    this.queries.setQueryData<Flow[]>(["flows"], (old) => put(old, flow, (one) => one.id, byName));
  }

  private onClient(client: Client): void {
    this.queries.setQueryData<Client[]>(["clients"], (old) =>
      put(
        old,
        { ...client, deleted: client.sessionCount === 0 },
        (one) => one.clientId,
        (a, b) => (a.clientId < b.clientId ? -1 : 1),
      ),
    );
  }

  private onSchedule(schedule: Schedule & { deleted?: boolean }): void {
    this.queries.setQueryData<Schedule[]>(["schedules"], (old) =>
      put(
        old,
        schedule,
        (one) => one.id,
        (a, b) => (a.flowName < b.flowName ? -1 : 1),
      ),
    );
  }

  private onTasks(runId: string, tasks: Task[]): void {
    this.queries.setQueryData<WholeRun>(["run", runId], (old) => {
      if (old === undefined) return old;
      const all = old.tasks.slice();
      for (const task of tasks)
        all[task.index] = task.cut ? { ...task, ...kept(all[task.index]) } : task;
      return { ...old, tasks: all };
    });
  }
}

/** Of a task whose event was shortened: what is known already. */
function kept(task: Task | undefined): Partial<Task> {
  return task === undefined ? {} : { result: task.result, error: task.error };
}

const byName = (a: Flow, b: Flow) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0);

function put<T>(
  old: T[] | undefined,
  one: T & { deleted?: boolean },
  id: (one: T) => string,
  order: (a: T, b: T) => number,
): T[] | undefined {
  if (old === undefined) return old;
  const others = old.filter((other) => id(other) !== id(one));
  return one.deleted ? others : [...others, one].sort(order);
}

export function useConnection(feed: Feed): Connection {
  return useSyncExternalStore(feed.subscribe, () => feed.state);
}
