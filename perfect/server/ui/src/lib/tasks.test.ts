import { describe, expect, it } from "vitest";
import type { Task, Tasks } from "../api/types";
import { chosen, counted, elapsed, firstFailed, nameOf, put, unusual } from "./tasks";

const task = (index: number, more: Partial<Task> = {}): Task => ({
  id: `r-${index}`,
  index,
  taskName: `Task ${index}`,
  state: "PENDING",
  attempt: 1,
  startTime: null,
  endTime: null,
  durationMs: null,
  estimatedTime: 1000,
  progress: 0,
  ownProgress: false,
  reason: null,
  crucialPass: true,
  mapIndex: null,
  upstream: null,
  performanceWarning: false,
  unusualAfterMs: null,
  ...more,
});
const page = (tasks: Task[], next: number | null = null): Tasks => ({
  tasks,
  next,
  total: tasks.length,
  states: {},
});
const at = (s: number) => new Date(s * 1000).toISOString();
const indices = (tasks: Task[] | undefined) => tasks?.map((one) => one.index);

describe("what the stream tells", () => {
  it("changes the task where it stands, and keeps what was not told", () => {
    const pages = [page([task(0, { weight: 0.5 })], 0), page([task(1)])];
    const after = put(pages, [task(0, { state: "RUNNING" })], true);
    expect(after?.[0]?.tasks[0]).toMatchObject({ state: "RUNNING", weight: 0.5 });
    expect(after?.[1]).toBe(pages[1]);
    expect(pages[0]?.tasks[0]?.state).toBe("PENDING");
  });

  it("adds new tasks at the end of all", () => {
    expect(indices(put([page([task(0)])], [task(2), task(1)], true)?.[0]?.tasks)).toEqual([
      0, 1, 2,
    ]);
    expect(indices(put([page([])], [task(0)], true)?.[0]?.tasks)).toEqual([0]);
  });

  it("does not fit where tasks in between are unknown", () => {
    expect(put([page([task(0)])], [task(2)], true)).toBeNull();
  });

  it("adds none where more are to be read, or only some are wanted", () => {
    expect(indices(put([page([task(0)], 0)], [task(1)], true)?.[0]?.tasks)).toEqual([0]);
    expect(indices(put([page([task(0)])], [task(1)], false)?.[0]?.tasks)).toEqual([0]);
  });
});

describe("a choice of tasks", () => {
  const all = [
    task(0, { state: "FAILED", startTime: at(5), durationMs: 10 }),
    task(1, { taskName: "Load <b>" }),
    task(2, { startTime: at(1), durationMs: 30 }),
  ];
  const none = { states: new Set<never>(), text: "", order: "called" as const };

  it("is by state and name", () => {
    expect(chosen(all, none, 0)).toBe(all);
    expect(indices(chosen(all, { ...none, states: new Set(["FAILED"]) }, 0))).toEqual([0]);
    expect(indices(chosen(all, { ...none, text: " LOAD" }, 0))).toEqual([1]);
  });

  it("is in order of starts or durations, with those that never began last", () => {
    expect(indices(chosen(all, { ...none, order: "started" }, 0))).toEqual([2, 0, 1]);
    expect(indices(chosen(all, { ...none, order: "longest" }, 0))).toEqual([2, 0, 1]);
  });

  it("is counted", () => expect(counted(all)).toEqual({ FAILED: 1, PENDING: 2 }));
});

it("knows for how long a task has run", () => {
  expect(elapsed(task(0), 9000)).toBeNull();
  expect(elapsed(task(0, { startTime: at(5) }), 9000)).toBe(4000);
  expect(elapsed(task(0, { startTime: at(5) }), 1000)).toBe(0);
  expect(elapsed(task(0, { startTime: at(5), endTime: at(6) }), 9000)).toBe(1000);
});

it("finds a running task slow as soon as it is", () => {
  const running = task(0, { state: "RUNNING", startTime: at(0), unusualAfterMs: 2000 });
  expect([1999, 2001].map((now) => unusual(running, now))).toEqual([false, true]);
  expect(unusual(task(0, { performanceWarning: true }), 0)).toBe(true);
  expect(unusual({ ...running, unusualAfterMs: null }, 1e9)).toBe(false);
});

it("finds the failure that came first", () => {
  const failed = (index: number, end: string | null) =>
    task(index, { state: "FAILED", endTime: end });
  expect(firstFailed([task(0), failed(1, at(9)), failed(2, at(3)), failed(3, null)])?.index).toBe(
    2,
  );
  expect(firstFailed([task(0)])).toBeUndefined();
});

it("names the elements of a mapped task apart", () => {
  expect(nameOf(task(4, { taskName: "load", mapIndex: 3 }))).toBe("load [3]");
});
