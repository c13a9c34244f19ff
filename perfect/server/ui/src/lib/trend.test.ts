import { expect, it } from "vitest";
import type { Ended } from "../api/types";
import { percent, timeMarks, timeRange, trendOf } from "./trend";

const ended = (at: number, state: Ended["state"], durationMs: number | null = 5): Ended => ({
  runId: String(at),
  state,
  startTime: new Date(at * 1000).toISOString(),
  endTime: null,
  durationMs,
});

it("puts what ended in order, each in the list of its state", () => {
  const never = { ...ended(0, "CANCELLED"), startTime: null };
  const trend = trendOf([
    ended(30, "CANCELLED"),
    ended(20, "FAILED"),
    ended(10, "COMPLETED", 7),
    never,
    ended(5, "CANCELLED", null),
  ]);
  expect(trend.times).toEqual([10, 20, 30]);
  expect(trend.completed).toEqual([7, null, null]);
  expect(trend.failed).toEqual([null, 5, null]);
  expect(trend.other).toEqual([null, null, 5]);
  expect(trend.entries.map((one) => one.runId)).toEqual(["10", "20", "30"]);
});

it("marks an axis by what tells its marks apart", () => {
  const noon = new Date(2026, 0, 2, 12).getTime() / 1000;
  const now = noon * 1000;
  expect(timeMarks([noon, noon + 10], 10, now)).toEqual(["12:00:00", "12:00:10"]);
  expect(timeMarks([noon, noon + 3600], 3600, now)).toEqual(["12:00", "13:00"]);
  expect(timeMarks([noon, noon + 43_200], 43_200, now)[1]).toMatch(/^00:00\n01-03$/);
  expect(timeMarks([noon, noon + 60], 60, now + 864e5)).toEqual(["12:00\n01-02", "12:01"]);
  expect(timeMarks([noon], 86_400)).toEqual(["01-02"]);
  expect(timeMarks([noon, noon + 366 * 86_400], 31 * 86_400)).toEqual(["2026-01", "2027-01"]);
});

it("gives a single time, or several at nearly the same, room around them", () => {
  expect(timeRange(100, 100)).toEqual([90, 110]);
  expect(timeRange(100, 100.5)).toEqual([90.25, 110.25]);
  expect(timeRange(1000, 2000)).toEqual([970, 2030]);
});

it("says a share without hiding a failure", () => {
  expect(percent(null)).toBe("–");
  expect(percent(1)).toBe("100 %");
  expect(percent(0.9999)).toBe("99.9 %");
  expect(percent(0.75)).toBe("75 %");
  expect(percent(0.29)).toBe("29 %");
});
