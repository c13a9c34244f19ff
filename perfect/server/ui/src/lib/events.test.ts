import { describe, expect, it } from "vitest";
import type { Client, Flow, Run, Schedule } from "../api/types";
import {
  changesLists,
  ends,
  withClient,
  withFlow,
  withLast,
  withRun,
  withSchedule,
} from "./events";

const run = (id: string, more: Partial<Run> = {}) => ({ id, state: "RUNNING", ...more }) as Run;

describe("a run", () => {
  const page = { runs: [run("a"), run("b")], next: null };

  it("is put where it is listed", () => {
    const told = run("b", { progress: 50 });
    expect(withRun(page, told).runs.map((one) => one.progress)).toEqual([undefined, 50]);
    expect(page.runs[1]?.progress).toBeUndefined();
    const pages = { pages: [page, { runs: [run("c")], next: null }] };
    const after = withRun(pages, run("c", { progress: 1 }));
    expect(after.pages[0]).toBe(page);
    expect(after.pages[1]?.runs[0]?.progress).toBe(1);
  });

  it("leaves what does not list it as it is", () => {
    expect(withRun(page, run("x"))).toBe(page);
    const pages = { pages: [page] };
    expect(withRun(pages, run("x"))).toBe(pages);
    expect(withRun(undefined, run("x"))).toBeUndefined();
  });

  it("changes lists when it is new, gone or of another state", () => {
    expect(changesLists(undefined, run("a"))).toBe(true);
    expect(changesLists("RUNNING", run("a", { progress: 5 }))).toBe(false);
    expect(changesLists("RUNNING", run("a", { state: "FAILED" }))).toBe(true);
    expect(changesLists("RUNNING", { ...run("a"), deleted: true })).toBe(true);
  });

  it("ends once", () => {
    expect(ends("RUNNING", run("a", { state: "COMPLETED" }))).toBe(true);
    expect(ends("COMPLETED", run("a", { state: "COMPLETED" }))).toBe(false);
  });
});

describe("the last run of a flow", () => {
  const at = (minute: number) => `2026-01-01T00:0${minute}:00.000Z`;
  const told = (id: string, minute: number, more: Partial<Run> = {}) =>
    run(id, { flowId: "f", createdAt: at(minute), startTime: null, ...more });
  const none = [{ id: "f", name: "load", lastRun: null } as Flow];
  const first = withLast(none, told("a", 1)) ?? [];

  it("is the newest that is told of", () => {
    expect(first[0]?.lastRun).toMatchObject({ id: "a", state: "RUNNING", createdAt: at(1) });
    expect(withLast(first, told("b", 2))?.[0]?.lastRun?.id).toBe("b");
    expect(withLast(first, told("b", 0))).toBe(first);
    expect(withLast(first, told("b", 0, { startTime: at(3) }))?.[0]?.lastRun?.id).toBe("b");
    expect(withLast(first, told("a", 1, { state: "FAILED" }))?.[0]?.lastRun?.state).toBe("FAILED");
  });

  it("does not change by what is not shown of it, nor by runs of others", () => {
    expect(withLast(first, told("a", 1, { progress: 5 }))).toBe(first);
    expect(withLast(first, told("x", 5, { flowId: "g" }))).toBe(first);
    expect(withLast(first, { ...run("x"), deleted: true })).toBe(first);
  });

  it("has to be asked for when it is deleted", () => {
    expect(withLast(first, { ...run("a"), deleted: true })).toBeNull();
  });
});

it("flows, clients and schedules come, change and go in order", () => {
  const flow = (id: string, name: string) => ({ id, name, clientId: "c" }) as Flow;
  const flows = withFlow(withFlow([flow("1", "b")], flow("2", "a")), flow("1", "c"));
  expect(flows.map((one) => one.name)).toEqual(["a", "c"]);
  expect(withFlow(flows, { ...flow("2", "a"), deleted: true })).toHaveLength(1);

  const client = (clientId: string, sessionCount: number): Client => ({
    clientId,
    sessionCount,
    sessions: [],
  });
  const clients = withClient([client("b", 1)], client("a", 2));
  expect(clients.map((one) => one.clientId)).toEqual(["a", "b"]);
  expect(withClient(clients, client("a", 0))).toHaveLength(1);

  const schedule = { id: "s", flowName: "f", clientId: "c", paused: false } as Schedule;
  expect(withSchedule([schedule], { ...schedule, paused: true })).toEqual([
    { ...schedule, paused: true },
  ]);
  expect(withSchedule([schedule], { ...schedule, deleted: true })).toEqual([]);
});
