import { describe, expect, it } from "vitest";
import type { Task } from "../api/types";
import { placeOf, spanOf, tickLabel, ticks } from "./timeline";

const at = (ms: number) => new Date(ms).toISOString();
const task = (from: number | null, to: number | null) =>
  ({ startTime: from === null ? null : at(from), endTime: to === null ? null : at(to) }) as Task;

describe("a span", () => {
  it("goes from the beginning of the run to its end, or to now", () => {
    expect(spanOf([], at(10), at(50), 99)).toEqual({ from: 10, to: 50 });
    expect(spanOf([], at(10), null, 99)).toEqual({ from: 10, to: 99 });
  });

  it("has room for every task", () => {
    expect(spanOf([task(5, 70), task(null, null)], at(10), at(50), 99)).toEqual({
      from: 5,
      to: 70,
    });
  });

  it("is never empty", () => expect(spanOf([], null, null, 7)).toEqual({ from: 7, to: 8 }));
});

describe("a task's place", () => {
  const span = { from: 100, to: 200 };

  it("is where and as long as it ran", () => {
    expect(placeOf(task(125, 150), span, 0)).toEqual({ at: 0.25, size: 0.25 });
    expect(placeOf(task(150, null), span, 175)).toEqual({ at: 0.5, size: 0.25 });
    expect(placeOf(task(null, null), span, 0)).toBeNull();
  });

  it("stays within", () => {
    expect(placeOf(task(90, 300), span, 0)).toEqual({ at: 0, size: 1 });
    expect(placeOf(task(150, 120), span, 0)).toEqual({ at: 0.5, size: 0 });
  });
});

it.each([
  [1, 1, [0, 1]],
  [950, 5, [0, 200, 400, 600, 800]],
  [59_000, 6, [0, 10_000, 20_000, 30_000, 40_000, 50_000]],
  [4 * 86_400_000, 4, [0, 1, 2, 3, 4].map((day) => day * 86_400_000)],
])("%s ms in at most %s steps", (length, most, expected) =>
  expect(ticks(length, most)).toEqual(expected),
);

it.each([
  [0, "0"],
  [200, "200 ms"],
  [30_000, "30 s"],
  [600_000, "10 min"],
  [90_000, "1:30 min"],
  [5_400_000, "1:30 h"],
  [7_200_000, "2 h"],
  [3 * 86_400_000, "3 d"],
])("%s ms is labelled %s", (ms, label) => expect(tickLabel(ms)).toBe(label));
