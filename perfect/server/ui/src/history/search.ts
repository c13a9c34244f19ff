/** The filters of the history, which live in the address as `GET /api/runs` takes them. */

import type { State } from "../api/types";

export const STATES: readonly State[] = [
  "PENDING",
  "RUNNING",
  "RETRYING",
  "COMPLETED",
  "FAILED",
  "CANCELLED",
];

export const FILTERS = ["state", "flow", "q", "tag", "client", "from", "to"] as const;
export type Filter = (typeof FILTERS)[number];

const PAGE = 50;

/** @param search the address's; what is no filter in it is left out. */
export function asked(search: string, limit = PAGE): string {
  const given = new URLSearchParams(search);
  const query = new URLSearchParams();
  for (const name of [...FILTERS, "cursor"]) {
    const value = given.get(name);
    if (value) query.set(name, value);
  }
  query.set("limit", String(limit));
  return query.toString();
}

/** The address's search with other filters; the pages begin anew. */
export function withFilters(search: string, changes: Partial<Record<Filter, string>>): string {
  const given = new URLSearchParams(search);
  given.delete("cursor");
  for (const [name, value] of Object.entries(changes)) {
    if (value === "") given.delete(name);
    else given.set(name, value);
  }
  return given.toString();
}

/** The address's search on another page; null: the newest. */
export function onPage(search: string, cursor: string | null): string {
  const given = new URLSearchParams(search);
  if (cursor === null) given.delete("cursor");
  else given.set("cursor", cursor);
  return given.toString();
}

/** The states that the address asks for, as far as there are such. */
export function statesOf(search: string): State[] {
  const given = new URLSearchParams(search).get("state")?.split(",") ?? [];
  return STATES.filter((state) => given.includes(state));
}

/** The states for the address, with one more or less. */
export function toggled(search: string, state: State): string {
  const chosen = new Set(statesOf(search));
  if (!chosen.delete(state)) chosen.add(state);
  return [...chosen].join(",");
}

/** Whether anything but the page is asked for. */
export function isFiltered(search: string): boolean {
  const given = new URLSearchParams(search);
  return FILTERS.some((name) => Boolean(given.get(name)));
}
