import { useQuery } from "@tanstack/react-query";
import { type FormEvent, useEffect, useId, useRef, useState } from "react";
import { flows } from "../api/queries";
import { ZONE } from "../lib/format";
import { hasZone, localOf, utcOf } from "../lib/moment";
import { useWide } from "../lib/useWide";
import { tagsOf } from "../library/filter";
import { StateMark } from "../parts/State";
import { type Filter, isFiltered, STATES, statesOf, toggled, withFilters } from "./search";

const TEXTS: readonly [Filter, label: string, example: string][] = [
  ["q", "Search", "flow's name, or id  /"],
  ["flow", "Flow", "whole name"],
  ["tag", "Tag", "name or name:value"],
  ["client", "Client", "whole name"],
];
const TIMES = [
  ["from", "Started from"],
  ["to", "Started before"],
] as const;

/** @param go is given the search of the address with the chosen filters. */
export function Filters({ search, go }: { search: string; go: (search: string) => void }) {
  const form = useRef<HTMLFormElement>(null);
  const id = useId();
  const known = useQuery(flows).data ?? [];
  const lists: Partial<Record<Filter, string[]>> = {
    flow: [...new Set(known.map((flow) => flow.name))],
    client: [...new Set(known.map((flow) => flow.clientId))],
    tag: tagsOf(known),
  };
  const states = statesOf(search);
  const wide = useWide();
  const [unfolded, unfold] = useState(() => isFiltered(withFilters(search, { q: "", state: "" })));
  const all = wide || unfolded;

  // Back and forward change the address, and the fields follow it.
  useEffect(() => {
    const given = new URLSearchParams(search);
    for (const [name] of [...TEXTS, ...TIMES]) {
      const field = form.current?.elements.namedItem(name);
      if (!(field instanceof HTMLInputElement)) continue;
      const value = given.get(name) ?? "";
      field.value = name === "from" || name === "to" ? localOf(zoned(value)) : value;
    }
  }, [search]);

  /** What stands in the fields, which may not have been sent off yet. */
  const typed = (): Partial<Record<Filter, string>> => {
    const given = new FormData(form.current ?? undefined);
    const changes: Partial<Record<Filter, string>> = {};
    for (const [name] of TEXTS) changes[name] = String(given.get(name) ?? "").trim();
    for (const [name] of TIMES) changes[name] = utcOf(String(given.get(name) ?? ""));
    return changes;
  };
  const submit = (event: FormEvent) => {
    event.preventDefault();
    go(withFilters(search, typed()));
  };

  return (
    <search className="panel filters">
      <form ref={form} onSubmit={submit} noValidate>
        {TEXTS.map(([name, label, example]) => (
          <label key={name} hidden={name !== "q" && !all}>
            <span>{label}</span>
            <input
              name={name}
              type={name === "q" ? "search" : "text"}
              placeholder={example}
              autoComplete="off"
              data-search={name === "q" ? "" : undefined}
              list={lists[name] === undefined ? undefined : `${id}-${name}`}
            />
            {lists[name] !== undefined && (
              <datalist id={`${id}-${name}`}>
                {lists[name].slice(0, 500).map((one) => (
                  <option key={one} value={one} />
                ))}
              </datalist>
            )}
          </label>
        ))}
        {TIMES.map(([name, label]) => (
          <label key={name} hidden={!all}>
            <span>{label}</span>
            <input name={name} type="datetime-local" title={`times in ${ZONE}`} />
          </label>
        ))}
        <div className="row end">
          <button type="submit">Filter</button>
          {!wide && (
            <button
              type="button"
              className="plain"
              aria-expanded={unfolded}
              onClick={() => unfold(!unfolded)}
            >
              {unfolded ? "Fewer filters" : "More filters"}
            </button>
          )}
          {isFiltered(search) && (
            <button type="button" className="plain" onClick={() => go("")}>
              Clear
            </button>
          )}
        </div>
      </form>
      <fieldset className="row states">
        <legend className="visually-hidden">states</legend>
        {STATES.map((state) => (
          <button
            key={state}
            type="button"
            className="chip"
            aria-pressed={states.includes(state)}
            onClick={() => go(withFilters(search, { ...typed(), state: toggled(search, state) }))}
          >
            <StateMark state={state} />
          </button>
        ))}
      </fieldset>
    </search>
  );
}

/** A time as the backend takes it: without a zone it is in UTC. */
function zoned(time: string): string {
  if (time === "" || hasZone(time)) return time;
  return /[T ]/.test(time) ? `${time}Z` : `${time}T00:00Z`;
}
