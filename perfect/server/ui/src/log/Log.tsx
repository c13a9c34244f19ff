import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { useEffect, useMemo, useSyncExternalStore } from "react";
import { useLocation, useSearch } from "wouter";
import { ask, BASE } from "../api/client";
import { run as runQuery, tasks as tasksQuery } from "../api/queries";
import { type Lines, type Tasks, TERMINAL } from "../api/types";
import { feed } from "../feed";
import { count } from "../lib/format";
import { Copy } from "./Copy";
import { Filters } from "./Filters";
import { LineList } from "./LineList";
import "./ansi.css";
import "./log.css";
import { useRemembered } from "./remembered";
import { type Filter, isFiltered, LogStore, PAGE, type Places, queryOf } from "./store";

const NO_NAMES: string[] = [];

/**
 * The log of a run, live.
 *
 * @param task only that of the task at this index.
 */
export function Log({ id, task }: { id: string; task?: number }) {
  const search = useSearch();
  const filter = useMemo(() => filterOf(search, task), [search, task]);
  const query = queryOf(filter);
  const path = `/api/runs/${encodeURIComponent(id)}/logs`;
  const run = useQuery(runQuery(id)).data;
  const total = run?.logLines;
  const names = useInfiniteQuery({ ...tasksQuery(id), select: namesOf }).data ?? NO_NAMES;
  const [wrap, setWrap] = useRemembered("wrap");
  const [times, setTimes] = useRemembered("times");
  const [place, go] = useLocation();

  const store = useMemo(
    () =>
      new LogStore(filter, {
        page: (after, limit) => ask<Lines>(`${path}?${query}&after=${after}&limit=${limit}`),
        places: (after, counted) =>
          ask<Places>(`${path}/pages?${query}&size=${PAGE}&after=${after}&counted=${counted}`),
      }),
    [filter, path, query],
  );
  useEffect(() => {
    const leave = feed.onLines((lines) => store.add(lines));
    return () => {
      leave();
      store.close();
    };
  }, [store]);
  useEffect(() => {
    if (total !== undefined) store.told(total);
  }, [store, total]);
  useSyncExternalStore(store.subscribe, () => store.version);

  const change = (part: Partial<Filter>) => {
    const next = searchWith(search, { ...filter, ...part }, task !== undefined);
    go(next === "" ? place : `${place}?${next}`, { replace: true });
  };
  const over = run !== undefined && TERMINAL.has(run.state);
  return (
    <div className="log">
      <div className="log-head">
        <span className="quiet">
          {!store.known
            ? ""
            : isFiltered(filter)
              ? `${store.count.toLocaleString("en")} of ${count(total ?? 0, "line")}`
              : count(store.count, "line")}
          {task !== undefined && `, of ${names[task] ?? `task ${task}`} only`}
        </span>
        <span className="spacer" />
        <label className="check log-times">
          <input
            type="checkbox"
            checked={times}
            onChange={(event) => setTimes(event.target.checked)}
          />{" "}
          times
        </label>
        <label className="check">
          <input
            type="checkbox"
            checked={wrap}
            onChange={(event) => setWrap(event.target.checked)}
          />{" "}
          wrap
        </label>
        <Copy store={store} path={path} query={query} />
        <a className="button" href={`${BASE}${path}.txt?${query}`} download>
          Download
        </a>
      </div>
      <Filters
        filter={filter}
        change={change}
        names={names}
        taskCount={run?.taskCount ?? 0}
        fixedTask={task !== undefined}
      />
      {store.error !== null && (
        <p className="notice" role="alert">
          {store.error.message}{" "}
          <button type="button" onClick={() => store.again()}>
            Try again
          </button>
        </p>
      )}
      {!store.known ? (
        store.error === null && <p className="quiet">Loading …</p>
      ) : store.count === 0 ? (
        <Nothing
          over={over}
          clear={
            isFiltered(filter) && queryOf(filter) !== queryOf(filterOf("", task))
              ? () => change({ task: task ?? null, level: "", text: "" })
              : null
          }
        />
      ) : (
        <LineList
          key={`${id}?${query}`}
          store={store}
          names={filter.task === null ? names : NO_NAMES}
          word={filter.text}
          wrap={wrap}
          times={times}
          over={over}
        />
      )}
    </div>
  );
}

function Nothing({ over, clear }: { over: boolean; clear: (() => void) | null }) {
  if (clear !== null) {
    return (
      <p className="notice">
        No line matches.{" "}
        <button type="button" onClick={clear}>
          Show all lines
        </button>
      </p>
    );
  }
  return (
    <p className="notice">
      {over
        ? "Nothing was printed or logged here."
        : "No lines yet. What the tasks print and log appears here as they do."}
    </p>
  );
}

function namesOf(data: { pages: Tasks[] }): string[] {
  const names: string[] = [];
  for (const page of data.pages) for (const one of page.tasks) names[one.index] = one.taskName;
  return names;
}

function filterOf(search: string, task: number | undefined): Filter {
  const query = new URLSearchParams(search);
  const chosen = query.get("log-task");
  return {
    task: task ?? (chosen !== null && /^\d{1,9}$/.test(chosen) ? Number(chosen) : null),
    level: query.get("log-level") ?? "",
    text: query.get("log-q") ?? "",
  };
}

function searchWith(search: string, filter: Filter, fixedTask: boolean): string {
  const query = new URLSearchParams(search);
  const put = (name: string, value: string) =>
    value === "" ? query.delete(name) : query.set(name, value);
  if (!fixedTask) put("log-task", filter.task === null ? "" : String(filter.task));
  put("log-level", filter.level);
  put("log-q", filter.text);
  return query.toString();
}
