import { describe, expect, it } from "vitest";
import { asked, isFiltered, onPage, statesOf, toggled, withFilters } from "./search";

it("asks for what the address says, and for no more", () => {
  expect(asked("")).toBe("limit=50");
  expect(asked("flow=a%20b&q=&evil=1&limit=9&cursor=3-4")).toBe("flow=a+b&cursor=3-4&limit=50");
});

it("begins anew with other filters", () => {
  expect(withFilters("flow=x&cursor=3-4", { q: "abc" })).toBe("flow=x&q=abc");
  expect(withFilters("flow=x&q=abc", { flow: "", q: "d" })).toBe("q=d");
});

it("turns pages", () => {
  expect(onPage("flow=x", "3-4")).toBe("flow=x&cursor=3-4");
  expect(onPage("flow=x&cursor=3-4", null)).toBe("flow=x");
});

describe("states", () => {
  it("come and go", () => {
    expect(statesOf("")).toEqual([]);
    expect(statesOf("state=FAILED,RUNNING,NONSENSE")).toEqual(["RUNNING", "FAILED"]);
    expect(toggled("", "FAILED")).toBe("FAILED");
    expect(toggled("state=FAILED", "RUNNING")).toBe("FAILED,RUNNING");
    expect(toggled("state=FAILED,RUNNING,NONSENSE", "FAILED")).toBe("RUNNING");
  });
});

it("knows whether anything is filtered", () => {
  expect(isFiltered("cursor=3-4&state=")).toBe(false);
  expect(isFiltered("tag=a:b")).toBe(true);
});
