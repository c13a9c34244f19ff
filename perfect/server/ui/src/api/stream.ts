/** The one stream of events, and what it makes of the answers that the pages hold. */

import type { QueryClient } from "@tanstack/react-query";
import { useSyncExternalStore } from "react";
import * as events from "../lib/events";
import { ask, BASE } from "./client";
import { note } from "./meanwhile";
import { putNews } from "./news";
import { tellOfTasks } from "./taskNews";
import {
  type Client,
  type Flow,
  type Line,
  type Run,
  type Schedule,
  type State,
  type Task,
  TERMINAL,
} from "./types";

/** live: by the stream; polling: the backend answers, but there is no stream; away: it does not answer. */
export type Connection = "connecting" | "live" | "polling" | "away";

// ms
const LISTS_EVERY = 1000; // runs come and go; a list is asked for again at most so often
const STATISTICS_EVERY = 5000;
export const POLL_EVERY = 3000;
// a proxy may accept the stream and pass nothing on
const PATIENCE = 10_000;
// a browser has six connections to a backend for all its tabs: those that nobody looks at let go of theirs
const HIDDEN_FOR = 60_000;

export class Feed {
  state: Connection = "connecting";
  private source: EventSource | null = null;
  private run: string | null = null;
  private listeners = new Set<() => void>();
  private lineListeners = new Set<(lines: Line[], skipped: boolean) => void>();
  /** Of the runs that are not over, as they were told last. */
  private states = new Map<string, State>();
  private due = new Map<string, ReturnType<typeof setTimeout>>();
  private poll: ReturnType<typeof setTimeout> | null = null;

  constructor(private queries: QueryClient) {}

  /** Follow everything, unless a page follows its run already. */
  begin(): void {
    if (this.source === null) this.follow(null);
    let hiding: ReturnType<typeof setTimeout> | undefined;
    document.addEventListener("visibilitychange", () => {
      clearTimeout(hiding);
      if (document.hidden) hiding = setTimeout(() => this.rest(), HIDDEN_FOR);
      else if (this.source === null) this.open();
    });
  }

  /** Follow everything, or one run with its tasks and lines. */
  follow(run: string | null): void {
    if (this.source !== null && this.run === run) return;
    this.run = run;
    if (this.state === "live") this.say("connecting");
    this.open();
  }

  onLines(listener: (lines: Line[], skipped: boolean) => void): () => void {
    this.lineListeners.add(listener);
    return () => this.lineListeners.delete(listener);
  }

  subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  private open(): void {
    this.source?.close();
    const source = new EventSource(
      `${BASE}/api/stream${this.run === null ? "" : `?run=${encodeURIComponent(this.run)}`}`,
    );
    this.source = source;
    const on = <T>(kind: string, take: (data: T) => void) =>
      source.addEventListener(kind, (event) => {
        const data = JSON.parse((event as MessageEvent<string>).data) as T;
        note(kind, data);
        take(data);
      });
    // What happened before is read again, unless the browser resumed where it was.
    on("ready", () => {
      this.live();
      this.beginAnew();
    });
    on("reset", () => this.beginAnew());
    on<events.Told<Run>>("run", (run) => this.onRun(run));
    on<events.Told<Flow>>("flow", (flow) => this.put("flows", events.withFlow, flow));
    on<Client>("client", (client) => this.put("clients", events.withClient, client));
    on<events.Told<Schedule>>("schedule", (schedule) =>
      this.put("schedules", events.withSchedule, schedule),
    );
    on<{ runId: string; tasks: Task[] }>("task", ({ runId, tasks }) =>
      tellOfTasks(this.queries, runId, tasks),
    );
    on<{ runId: string; lines: Line[]; skipped?: number }>("log", ({ lines, skipped }) => {
      for (const listener of this.lineListeners) listener(lines, Boolean(skipped));
    });
    source.onopen = () => this.live();
    source.onerror = () => this.pollSoon(0);
    if (this.poll === null) this.pollSoon(PATIENCE);
  }

  private rest(): void {
    this.source?.close();
    this.source = null;
    this.stopPolling();
    this.say("connecting");
  }

  private live(): void {
    this.stopPolling();
    this.say("live");
  }

  private stopPolling(): void {
    if (this.poll !== null) clearTimeout(this.poll);
    this.poll = null;
  }

  private pollSoon(delay: number): void {
    if (this.poll !== null) {
      // it is polled already, unless that is only to come if the stream does not
      if (this.state === "polling" || this.state === "away") return;
      clearTimeout(this.poll);
    }
    this.poll = setTimeout(() => void this.pollNow(), delay);
  }

  /** Without the stream: ask again for what is shown, every few seconds. */
  private async pollNow(): Promise<void> {
    const mine = this.poll;
    let answers = true;
    try {
      await ask("/api/version"); // leads to the login where that is what is missing
    } catch {
      answers = false;
    }
    if (this.poll !== mine) return; // the stream has come back meanwhile
    this.say(answers ? "polling" : "away");
    if (answers) void this.queries.invalidateQueries({}, { cancelRefetch: false });
    // a browser tries again by itself after a break, but not after a refusal
    if (answers && this.source?.readyState === EventSource.CLOSED) this.open();
    this.poll = setTimeout(() => void this.pollNow(), POLL_EVERY);
  }

  private say(state: Connection): void {
    if (this.state === state) return;
    this.state = state;
    for (const listener of this.listeners) listener();
  }

  /** Nothing that was asked for before is known to be up to date, nor is what is on its way. */
  private beginAnew(): void {
    this.states.clear();
    // A first answer that is on its way is not asked for again as long as it is awaited.
    void this.queries.cancelQueries().then(() => this.queries.invalidateQueries());
  }

  private onRun(run: events.Told<Run>): void {
    const before = this.states.get(run.id);
    if (run.deleted || TERMINAL.has(run.state)) this.states.delete(run.id);
    else this.states.set(run.id, run.state);
    if (events.changesLists(before, run)) this.askAgain("runs", LISTS_EVERY);
    const flows = this.queries.getQueryData<Flow[]>(["flows"]);
    const told = flows === undefined ? flows : events.withLast(flows, run);
    if (told === null) this.askAgain("flows", LISTS_EVERY);
    else if (told !== flows) this.queries.setQueryData(["flows"], told);
    if (run.deleted) {
      void this.queries.invalidateQueries({ queryKey: ["run", run.id] });
      return;
    }
    putNews(this.queries, ["runs"], (old) => events.withRun(old, run));
    this.queries.setQueryData<Run>(["run", run.id], (old) =>
      old === undefined ? old : { ...old, ...run },
    );
    if (events.ends(before, run)) this.askAgain("statistics", STATISTICS_EVERY);
  }

  private askAgain(kind: string, delay: number): void {
    if (this.due.has(kind)) return;
    const later = setTimeout(() => {
      this.due.delete(kind);
      // An answer that is on its way may be older, but a slow one must come in spite of news.
      if (this.queries.isFetching({ queryKey: [kind] }) > 0) this.askAgain(kind, delay);
      void this.queries.invalidateQueries({ queryKey: [kind], fetchStatus: "idle" });
    }, delay);
    this.due.set(kind, later);
  }

  private put<T, U>(kind: string, change: (old: T, told: U) => T, told: U): void {
    putNews<T>(this.queries, [kind], (old) => change(old, told), true);
  }
}

export function useConnection(feed: Feed): Connection {
  return useSyncExternalStore(feed.subscribe, () => feed.state);
}
