/** The tasks of a run, as far as the page has read them. */

import type { State, Task, Tasks } from "../api/types";

/**
 * The pages with what the stream told of some tasks.
 *
 * @param whole whether the pages have every task up to their end, so that a new one belongs there.
 * @returns null where a new one does not fit: there are tasks in between of which nothing is known.
 */
export function put(pages: Tasks[], told: Task[], whole: boolean): Tasks[] | null {
  const news = new Map(told.map((task) => [task.index, task]));
  const changed = pages.map((page) => {
    const tasks = page.tasks.slice();
    let touched = false;
    for (const [at, old] of page.tasks.entries()) {
      const task = news.get(old.index);
      if (task === undefined) continue;
      news.delete(old.index);
      tasks[at] = { ...old, ...task };
      touched = true;
    }
    return touched ? { ...page, tasks } : page;
  });
  const last = changed.at(-1);
  if (!whole || last === undefined || last.next !== null || news.size === 0) return changed;
  const added = [...news.values()].sort((a, b) => a.index - b.index);
  const first = (last.tasks.at(-1)?.index ?? -1) + 1;
  if (added.some((task, at) => task.index !== first + at)) return null;
  changed[changed.length - 1] = { ...last, tasks: [...last.tasks, ...added] };
  return changed;
}

/** How many tasks are in which state. */
export function counted(tasks: Task[]): Partial<Record<State, number>> {
  const counts: Partial<Record<State, number>> = {};
  for (const { state } of tasks) counts[state] = (counts[state] ?? 0) + 1;
  return counts;
}

export type Order = "called" | "started" | "longest";

export interface Wanted {
  states: ReadonlySet<State>;
  text: string;
  order: Order;
}

/** The tasks that are wanted, in that order. */
export function chosen(tasks: Task[], { states, text, order }: Wanted, now: number): Task[] {
  const part = text.trim().toLowerCase();
  const found =
    states.size === 0 && part === ""
      ? tasks
      : tasks.filter(
          (task) =>
            (states.size === 0 || states.has(task.state)) &&
            (part === "" || task.taskName.toLowerCase().includes(part)),
        );
  if (order === "called") return found;
  const key = (task: Task) =>
    order === "started" ? (started(task) ?? Number.POSITIVE_INFINITY) : -(elapsed(task, now) ?? -1);
  const keyed = found.map((task) => [key(task), task] as const);
  return keyed.sort(([a, x], [b, y]) => (a === b ? x.index - y.index : a - b)).map(([, t]) => t);
}

/** When a task began, in ms since the epoch. */
export function started(task: Task): number | null {
  return task.startTime === null ? null : Date.parse(task.startTime);
}

/** For how long a task has run, in ms; null for one that never began. */
export function elapsed(task: Task, now: number): number | null {
  if (task.durationMs !== null) return task.durationMs;
  const from = started(task);
  if (from === null) return null;
  return Math.max(0, (task.endTime === null ? now : Date.parse(task.endTime)) - from);
}

/** Whether a task takes, or took, unusually long. */
export function unusual(task: Task, now: number): boolean {
  if (task.performanceWarning) return true;
  const ms = task.state === "RUNNING" ? elapsed(task, now) : null;
  return ms !== null && task.unusualAfterMs !== null && ms > task.unusualAfterMs;
}

/** The failed task that ended first. */
export function firstFailed(tasks: Task[]): Task | undefined {
  let first: Task | undefined;
  for (const task of tasks) {
    if (task.state !== "FAILED") continue;
    if (first === undefined || (task.endTime ?? "~") < (first.endTime ?? "~")) first = task;
  }
  return first;
}

/** A task by a name that tells the elements of a mapped one apart. */
export function nameOf(task: Task): string {
  return task.mapIndex === null ? task.taskName : `${task.taskName} [${task.mapIndex}]`;
}
