/** Durations over time, as a chart wants them. */

import type { Ended, State } from "../api/types";

export interface Trend {
  /** When each began: s since the epoch, ascending. */
  times: number[];
  /** Durations in ms, each in the list of its state. */
  completed: (number | null)[];
  failed: (number | null)[];
  other: (number | null)[];
  /** What each is. */
  entries: Ended[];
}

/** @param history in any order; what never began or has no duration is left out. */
export function trendOf(history: Ended[]): Trend {
  const entries = history
    .filter((one) => one.startTime !== null && one.durationMs !== null)
    .sort((a, b) => Date.parse(a.startTime ?? "") - Date.parse(b.startTime ?? ""));
  const of = (fits: (state: State) => boolean) =>
    entries.map((one) => (fits(one.state) ? one.durationMs : null));
  return {
    times: entries.map((one) => Date.parse(one.startTime ?? "") / 1000),
    completed: of((state) => state === "COMPLETED"),
    failed: of((state) => state === "FAILED"),
    other: of((state) => state !== "COMPLETED" && state !== "FAILED"),
    entries,
  };
}

// s: what an axis shows at least, so that its marks can be told apart
const LEAST = 20;

/**
 * From when to when an axis of time goes: beyond the first and the last that stand on it, and with room around a
 * single one.
 *
 * @param first s since the epoch.
 * @param last s since the epoch.
 */
export function timeRange(first: number, last: number): [number, number] {
  const room = Math.max((last - first) * 0.03, (LEAST - (last - first)) / 2);
  return [first - room, last + room];
}

const DAY = 86_400;
const MONTH = 28 * DAY;
const day = new Intl.DateTimeFormat("sv-SE", { dateStyle: "short" });
const minute = new Intl.DateTimeFormat("sv-SE", { hour: "2-digit", minute: "2-digit" });
const second = new Intl.DateTimeFormat("sv-SE", { timeStyle: "medium" });

/**
 * What stands at the marks of an axis of time, in the viewer's zone: the day, too, where it is another than before.
 *
 * @param marks s since the epoch.
 * @param apart s from one to the next.
 */
export function timeMarks(marks: number[], apart: number, now = Date.now()): string[] {
  let before = day.format(now);
  return marks.map((mark) => {
    const at = new Date(mark * 1000);
    const today = day.format(at);
    if (apart >= MONTH) return today.slice(0, 7);
    if (apart >= DAY) return today.slice(5); // without the year
    const clock = (apart < 60 ? second : minute).format(at);
    const shown = before === today ? clock : `${clock}\n${today.slice(5)}`;
    before = today;
    return shown;
  });
}

/** A share in words: "98.5 %", never "100 %" while there was a failure. */
export function percent(share: number | null): string {
  if (share === null) return "–";
  const whole = share * 100;
  const cut = Math.floor(whole * 10 + 1e-9) / 10;
  return `${Number.isInteger(cut) ? cut : cut.toFixed(1)} %`;
}
