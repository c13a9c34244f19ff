/** Progress between two answers of the backend, as its engine/progress.py defines it. */

import type { State, Task } from "../api/types";

const OVER: ReadonlySet<State> = new Set(["COMPLETED", "SKIPPED"]);

/**
 * A task's progress from 0 to 100.
 *
 * @param now ms since the epoch.
 */
export function ofTask(task: Task, now: number): number {
  if (OVER.has(task.state)) return 100;
  if (task.state !== "RUNNING" || task.ownProgress || task.startTime === null) return task.progress;
  if (task.estimatedTime <= 0) return 99;
  const due = ((now - Date.parse(task.startTime)) / task.estimatedTime) * 100;
  // the clocks of the client and the viewer may differ: it never goes back
  return Math.min(99, Math.max(task.progress, due));
}

/**
 * A run's progress from 0 to 100: what the backend said, and what its running tasks made since.
 *
 * @param said what the backend said.
 * @param at when it said so.
 */
export function ofRun(state: State, said: number, at: number, running: Task[], now: number) {
  if (state !== "RUNNING") return said;
  let made = 0;
  for (const task of running)
    made += (task.weight ?? 0) * Math.max(0, ofTask(task, now) - ofTask(task, at));
  return Math.max(said, Math.min(99, said + made));
}
