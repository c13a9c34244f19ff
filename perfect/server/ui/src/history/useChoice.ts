import { useRef, useState } from "react";
import { ask } from "../api/client";
import type { Run, Runs } from "../api/types";
import type { Choice } from "../parts/RunTable";
import { asked, onPage } from "./search";

export const MOST = 5000; // runs that are chosen at once
const AT_ONCE = 1000; // of a request

export interface Chosen extends Choice {
  runs: Run[];
  clear: () => void;
  /** Choose all that match the filters of the address, the newest `MOST` of them. */
  all: () => Promise<void>;
}

/** The runs that are chosen, also on pages that are not seen. @param page those that are. */
export function useChoice(search: string, page: readonly Run[]): Chosen {
  const [chosen, setChosen] = useState<ReadonlyMap<string, Run>>(new Map());
  const last = useRef<string | null>(null); // where a range begins

  // Other filters mean another choice; another page of the same ones does not.
  const filters = onPage(search, null);
  const [before, setBefore] = useState(filters);
  if (before !== filters) {
    setBefore(filters);
    setChosen(new Map());
  }

  const toggle = (run: Run, range: boolean) => {
    const next = new Map(chosen);
    const on = !chosen.has(run.id);
    const from = range ? page.findIndex((one) => one.id === last.current) : -1;
    const at = page.findIndex((one) => one.id === run.id);
    const rows = from < 0 ? [run] : page.slice(Math.min(from, at), Math.max(from, at) + 1);
    for (const one of rows) {
      if (on) next.set(one.id, one);
      else next.delete(one.id);
    }
    last.current = run.id;
    setChosen(next);
  };

  const here = page.filter((run) => chosen.has(run.id)).length;
  const whole = page.length > 0 && here === page.length;
  const togglePage = () => {
    const next = new Map(chosen);
    for (const run of page) {
      if (whole) next.delete(run.id);
      else next.set(run.id, run);
    }
    setChosen(next);
  };

  const all = async () => {
    const found = new Map<string, Run>();
    let cursor: string | null = null;
    do {
      const { runs, next }: Runs = await ask<Runs>(
        `/api/runs?${asked(onPage(search, cursor), AT_ONCE)}`,
      );
      for (const run of runs) if (found.size < MOST) found.set(run.id, run);
      cursor = next;
    } while (cursor !== null && found.size < MOST);
    setChosen(found);
  };

  const current = new Map(page.map((run) => [run.id, run]));
  return {
    has: (id) => chosen.has(id),
    toggle,
    page: whole ? true : here > 0 ? "some" : false,
    togglePage,
    runs: [...chosen.values()].map((run) => current.get(run.id) ?? run),
    clear: () => setChosen(new Map()),
    all,
  };
}
