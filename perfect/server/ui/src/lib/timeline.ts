/** From times to places on a timeline. */

import type { Task } from "../api/types";
import { started } from "./tasks";

export interface Span {
  from: number;
  to: number;
}

/** From when to when a run's timeline goes, in ms since the epoch. */
export function spanOf(tasks: Task[], start: string | null, end: string | null, now: number): Span {
  let from = start === null ? Number.POSITIVE_INFINITY : Date.parse(start);
  let to = end === null ? now : Date.parse(end);
  for (const task of tasks) {
    const began = started(task);
    if (began === null) continue;
    from = Math.min(from, began);
    if (task.endTime !== null) to = Math.max(to, Date.parse(task.endTime));
  }
  if (from === Number.POSITIVE_INFINITY) from = to;
  return { from, to: Math.max(to, from + 1) };
}

/** Where a task stands in a span, as shares of its length; null for one that never began. */
export function placeOf(task: Task, span: Span, now: number): { at: number; size: number } | null {
  const from = started(task);
  if (from === null) return null;
  const length = span.to - span.from;
  const at = Math.min(1, Math.max(0, (from - span.from) / length));
  const to = task.endTime === null ? now : Date.parse(task.endTime);
  return { at, size: Math.min(1 - at, Math.max(0, (to - from) / length)) };
}

const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500];
const SECONDS = [
  1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200,
];
const DAY = 86_400_000;

/** Round durations from 0 to one, in ms: at most `most` of them, and the 0. */
export function ticks(length: number, most: number): number[] {
  const steps = [...STEPS, ...SECONDS.map((s) => s * 1000)];
  const step = steps.find((ms) => length / ms <= most) ?? Math.ceil(length / most / DAY) * DAY;
  return Array.from({ length: Math.floor(length / step) + 1 }, (_, n) => tenths(n * step));
}

/** Of steps that are no whole numbers, the sums are not quite what they should be. */
function tenths(ms: number): number {
  return Math.round(ms * 10) / 10;
}

/** A duration, as short as a tick's label must be, and as exact. */
export function tickLabel(ms: number): string {
  if (ms === 0) return "0";
  if (ms < 1000) return `${ms} ms`;
  const s = ms / 1000;
  if (s < 60) return `${s} s`;
  if (s < 3600) return s % 60 === 0 ? `${s / 60} min` : `${Math.floor(s / 60)}:${pad(s % 60)} min`;
  const h = Math.floor(s / 3600);
  if (h < 48) return s % 3600 === 0 ? `${h} h` : `${h}:${pad((s % 3600) / 60)} h`;
  return h % 24 === 0 ? `${h / 24} d` : `${Math.floor(h / 24)} d ${Math.floor(h % 24)} h`;
}

function pad(n: number): string {
  return String(Math.floor(n)).padStart(2, "0");
}
