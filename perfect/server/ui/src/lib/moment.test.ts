import { expect, it } from "vitest";
import { localOf, utcOf } from "./moment";

it("goes there and back", () => {
  for (const iso of ["2026-01-02T03:04:05Z", "2026-07-31T23:59:59Z"])
    expect(utcOf(localOf(iso))).toBe(iso);
});

it("leaves alone what has no zone", () =>
  expect(localOf("2026-01-02 03:04:05.123")).toBe("2026-01-02T03:04:05"));

it("makes nothing of nothing", () => {
  expect(localOf(null)).toBe("");
  expect(localOf("soonZ")).toBe("");
  expect(utcOf("soon")).toBe("");
});
