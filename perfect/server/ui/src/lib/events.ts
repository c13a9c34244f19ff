/** What an event makes of the answers that the pages hold. Nothing is changed in place. */

import {
  type Client,
  type Flow,
  type LastRun,
  type Run,
  type Schedule,
  type State,
  TERMINAL,
} from "../api/types";

/** An event tells of something that is there, or that it is not any more. */
export type Told<T> = T & { deleted?: boolean };

interface Listed {
  runs: Run[];
}

/**
 * A page of runs, or several of them one after the other, with what is new of one.
 *
 * @returns the same object if the run is not in it.
 */
export function withRun<T>(old: T, run: Run): T {
  if (isPages(old)) {
    const pages = old.pages.map((page) => withRun(page, run));
    return pages.every((page, at) => page === old.pages[at]) ? old : { ...old, pages };
  }
  if (!isListed(old)) return old;
  const at = old.runs.findIndex((one) => one.id === run.id);
  if (at < 0) return old;
  return { ...old, runs: old.runs.with(at, { ...old.runs[at], ...run }) };
}

function isPages(value: unknown): value is { pages: Listed[] } {
  return typeof value === "object" && value !== null && "pages" in value;
}

function isListed(value: unknown): value is Listed {
  return (
    typeof value === "object" && value !== null && "runs" in value && Array.isArray(value.runs)
  );
}

/**
 * Whether lists may have to be asked for again: whom they show depends on what changed.
 *
 * @param before as it was told last, whatever the lists say: one may have it already, and another not.
 */
export function changesLists(before: State | undefined, run: Told<Run>): boolean {
  return Boolean(run.deleted) || before !== run.state;
}

export function withFlow(old: Flow[], flow: Told<Flow>): Flow[] {
  return put(old, flow, (one) => one.id, [(one) => one.name, (one) => one.clientId]);
}

/**
 * The flows with what is new of a run, if that is the newest of its flow.
 *
 * @returns the same object if it is not; null: they have to be asked for again.
 */
export function withLast(old: Flow[], run: Told<Run>): Flow[] | null {
  if (run.deleted) return old.some((flow) => flow.lastRun?.id === run.id) ? null : old;
  const at = old.findIndex((flow) => flow.id === run.flowId);
  const flow = old[at];
  if (flow === undefined) return old;
  const last = flow.lastRun;
  if (last !== null && last.id !== run.id && placeOf(last) > placeOf(run)) return old;
  const { id, state, createdAt, startTime, endTime, durationMs, cancelling } = run;
  const lastRun: LastRun = { id, state, createdAt, startTime, endTime, durationMs, cancelling };
  const names = Object.keys(lastRun) as (keyof LastRun)[];
  if (names.every((name) => lastRun[name] === last?.[name])) return old;
  return old.with(at, { ...flow, lastRun });
}

/** What lists are ordered by. */
function placeOf(run: LastRun): string {
  return run.startTime ?? run.createdAt;
}

export function withClient(old: Client[], client: Client): Client[] {
  const told = { ...client, deleted: client.sessionCount === 0 };
  return put(old, told, (one) => one.clientId, [(one) => one.clientId]);
}

export function withSchedule(old: Schedule[], schedule: Told<Schedule>): Schedule[] {
  return put(old, schedule, (one) => one.id, [(one) => one.flowName, (one) => one.clientId]);
}

function put<T>(
  old: T[],
  one: Told<T>,
  id: (one: T) => string,
  order: ((one: T) => string)[],
): T[] {
  const others = old.filter((other) => id(other) !== id(one));
  if (one.deleted) return others;
  return [...others, one].sort((a, b) => {
    for (const by of order) {
      if (by(a) !== by(b)) return by(a) < by(b) ? -1 : 1;
    }
    return 0;
  });
}

/** Whether a run has come to its end by this event. */
export function ends(before: State | undefined, run: Told<Run>): boolean {
  return TERMINAL.has(run.state) && (before === undefined || !TERMINAL.has(before));
}
