import { describe, expect, it } from "vitest";
import type { Task } from "../api/types";
import { ofRun, ofTask } from "./progress";

const running = (more: Partial<Task> = {}) =>
  ({
    state: "RUNNING",
    startTime: "1970-01-01T00:00:00Z",
    estimatedTime: 1000,
    progress: 0,
    ownProgress: false,
    weight: 0.5,
    ...more,
  }) as Task;

describe("a task", () => {
  it("moves with the time it is estimated to take, and waits at 99", () => {
    expect([0, 250, 5000].map((now) => ofTask(running(), now))).toEqual([0, 25, 99]);
  });

  it("never goes back behind what the backend said", () => {
    expect(ofTask(running({ progress: 60 }), 250)).toBe(60);
  });

  it("that tells its own progress stays there", () => {
    expect(ofTask(running({ ownProgress: true, progress: 10 }), 900)).toBe(10);
  });

  it("is done, has not begun, or stays where it failed", () => {
    expect(ofTask(running({ state: "COMPLETED" }), 0)).toBe(100);
    expect(ofTask(running({ state: "SKIPPED" }), 0)).toBe(100);
    expect(ofTask(running({ state: "PENDING", startTime: null }), 9)).toBe(0);
    expect(ofTask(running({ state: "FAILED", progress: 40 }), 5000)).toBe(40);
    expect(ofTask(running({ estimatedTime: 0 }), 0)).toBe(99);
  });
});

describe("a run", () => {
  it("adds to what was said the shares of what its tasks made since", () => {
    const tasks = [running(), running({ weight: 0.25, ownProgress: true })];
    expect(ofRun("RUNNING", 30, 100, tasks, 300)).toBeCloseTo(30 + 0.5 * 20);
    expect(ofRun("RUNNING", 98, 0, tasks, 900)).toBe(99);
  });

  it("that does not run stands still", () => {
    expect(ofRun("COMPLETED", 100, 0, [running()], 900)).toBe(100);
    expect(ofRun("FAILED", 20, 0, [running()], 900)).toBe(20);
  });

  it("does not move before the time at which the backend spoke", () => {
    expect(ofRun("RUNNING", 30, 500, [running()], 400)).toBe(30);
  });
});
