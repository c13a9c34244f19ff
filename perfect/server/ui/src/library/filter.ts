/** Which flows of the library are looked for. */

import type { Flow } from "../api/types";

/** @param tag "name" or "name:value"; "" for any. */
export function matching(flows: readonly Flow[], text: string, tag: string): Flow[] {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  return flows.filter((flow) => {
    if (tag !== "" && !hasTag(flow, tag)) return false;
    if (words.length === 0) return true;
    const tags = Object.entries(flow.tags).map(([name, value]) => `${name}:${value}`);
    const tasks = flow.tasks.map((task) => task.name);
    const all = [flow.name, flow.description, flow.clientId, ...tags, ...tasks];
    const whole = all.join("\n").toLowerCase();
    return words.every((word) => whole.includes(word));
  });
}

function hasTag(flow: Flow, tag: string): boolean {
  const at = tag.indexOf(":");
  if (at < 0) return Object.hasOwn(flow.tags, tag);
  return flow.tags[tag.slice(0, at)] === tag.slice(at + 1);
}

/** Every tag of the flows, "name:value", in order. */
export function tagsOf(flows: readonly Flow[]): string[] {
  const all = flows.flatMap((flow) =>
    Object.entries(flow.tags).map(([name, value]) => `${name}:${value}`),
  );
  return [...new Set(all)].sort();
}

/** When a flow runs by itself, in words. */
export function scheduleOf(schedule: Flow["schedule"]): string | null {
  if (schedule === null || typeof schedule === "string") return schedule;
  const { cron, every_seconds: every, timezone } = schedule;
  const when = typeof cron === "string" ? cron : `every ${String(every)} s`;
  return typeof timezone === "string" && timezone !== "UTC" ? `${when} ${timezone}` : when;
}
