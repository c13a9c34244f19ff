import { expect, it } from "vitest";
import type { Flow } from "../api/types";
import { matching, scheduleOf, tagsOf } from "./filter";

const flow = (name: string, tags: Record<string, string> = {}, tasks: string[] = []) =>
  ({
    name,
    clientId: "c1",
    description: `About ${name}`,
    tags,
    tasks: tasks.map((one) => ({ name: one })),
  }) as Flow;

const ALL = [flow("Load", { team: "data", kind: "a:b" }, ["fetch"]), flow("Send", { team: "ops" })];
const names = (text: string, tag = "") => matching(ALL, text, tag).map((one) => one.name);

it("finds by words in name, description, tags, tasks and client", () => {
  expect(names("")).toEqual(["Load", "Send"]);
  expect(names("about  SEND")).toEqual(["Send"]);
  expect(names("fetch")).toEqual(["Load"]);
  expect(names("team:ops")).toEqual(["Send"]);
  expect(names("fetch ops")).toEqual([]);
});

it("finds by tag", () => {
  expect(names("", "team")).toEqual(["Load", "Send"]);
  expect(names("", "team:data")).toEqual(["Load"]);
  expect(names("", "kind:a:b")).toEqual(["Load"]);
  expect(names("", "toString")).toEqual([]);
  expect(tagsOf(ALL)).toEqual(["kind:a:b", "team:data", "team:ops"]);
});

it("says when a flow runs", () => {
  expect(scheduleOf(null)).toBeNull();
  expect(scheduleOf("0 6 * * *")).toBe("0 6 * * *");
  expect(scheduleOf({ every_seconds: 30 })).toBe("every 30 s");
  expect(scheduleOf({ cron: "0 6 * * *", timezone: "Europe/Berlin" })).toBe(
    "0 6 * * * Europe/Berlin",
  );
});
