import { describe, expect, it } from "vitest";
import { count, distance, duration } from "./format";

/** With no-break spaces. */
const unparted = (words: string) => words.replaceAll(" ", "\u00a0");

describe("duration", () => {
  it.each([
    [null, "–"],
    [0, "< 1 ms"],
    [0.4, "0.4 ms"],
    [1, "1 ms"],
    [2.25, "2.3 ms"],
    [999, "999 ms"],
    [999.7, "1.0 s"],
    [1000, "1.0 s"],
    [59_900, "59.9 s"],
    [59_960, "1 min 00 s"],
    [61_000, "1 min 01 s"],
    [3_600_000, "1 h 00 min"],
    [49 * 3_600_000, "2 d 1 h"],
  ])("%s ms is %s", (ms, words) => expect(duration(ms)).toBe(unparted(words)));
});

it("says how long ago and until", () => {
  expect(distance("2026-01-01T00:00:00Z", Date.parse("2026-01-01T00:00:05Z"))).toBe(
    unparted("5 s ago"),
  );
  expect(distance("2026-01-01T02:00:00Z", Date.parse("2026-01-01T00:00:00Z"))).toBe(
    unparted("in 2 h 00 min"),
  );
});

it("counts", () => {
  expect(count(1, "task")).toBe("1 task");
  expect(count(12_000, "task")).toBe("12,000 tasks");
});
