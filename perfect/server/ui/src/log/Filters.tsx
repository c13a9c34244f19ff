import { useEffect, useRef, useState } from "react";
import type { Filter } from "./store";

const LEVELS = [
  ["", "all levels"],
  ["WARNING,ERROR,CRITICAL", "warnings and errors"],
  ["ERROR,CRITICAL", "errors"],
  ["DEBUG", "DEBUG"],
  ["INFO", "INFO"],
  ["WARNING", "WARNING"],
  ["ERROR", "ERROR"],
  ["CRITICAL", "CRITICAL"],
] as const;
// of more tasks nobody looks for one in a list
const MOST_LISTED = 500;
const TYPING = 300; // ms

/** @param names of the tasks, by index. */
export function Filters({
  filter,
  change,
  names,
  taskCount,
  fixedTask,
}: {
  filter: Filter;
  change: (part: Partial<Filter>) => void;
  names: string[];
  taskCount: number;
  fixedTask: boolean;
}) {
  const known = LEVELS.some(([value]) => value === filter.level);
  return (
    <div className="log-filters">
      {!fixedTask && <TaskChoice {...{ filter, change, names, taskCount }} />}
      <select
        aria-label="level"
        value={filter.level}
        onChange={(event) => change({ level: event.target.value })}
      >
        {LEVELS.map(([value, name]) => (
          <option key={value} value={value}>
            {name}
          </option>
        ))}
        {!known && <option value={filter.level}>{filter.level}</option>}
      </select>
      <Search text={filter.text} change={(text) => change({ text })} />
    </div>
  );
}

function TaskChoice({
  filter,
  change,
  names,
  taskCount,
}: {
  filter: Filter;
  change: (part: Partial<Filter>) => void;
  names: string[];
  taskCount: number;
}) {
  if (taskCount > MOST_LISTED) {
    return (
      <input
        type="number"
        aria-label="number of a task"
        placeholder="task number"
        min={0}
        max={taskCount - 1}
        value={filter.task ?? ""}
        onChange={(event) =>
          change({ task: event.target.value === "" ? null : Math.abs(Number(event.target.value)) })
        }
      />
    );
  }
  const missing = filter.task !== null && names[filter.task] === undefined;
  return (
    <select
      aria-label="task"
      value={filter.task ?? ""}
      onChange={(event) =>
        change({ task: event.target.value === "" ? null : Number(event.target.value) })
      }
    >
      <option value="">all tasks</option>
      {names.map((name, index) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: the index is what a task is known by
        <option key={index} value={index}>
          {index} · {name}
        </option>
      ))}
      {missing && <option value={filter.task ?? ""}>task {filter.task}</option>}
    </select>
  );
}

/** What is typed counts after a moment, and at once with Enter. */
function Search({ text, change }: { text: string; change: (text: string) => void }) {
  const [typed, setTyped] = useState(text);
  const told = useRef(text);
  const latest = useRef(change);
  latest.current = change;
  useEffect(() => {
    // the address changed by itself: back, or "show all lines"
    if (text !== told.current) setTyped(text);
    told.current = text;
  }, [text]);
  useEffect(() => {
    const timer = setTimeout(() => {
      if (typed === told.current) return;
      told.current = typed;
      latest.current(typed);
    }, TYPING);
    return () => clearTimeout(timer);
  }, [typed]);
  return (
    <input
      type="search"
      data-search
      aria-label="text in the lines"
      placeholder="text in the whole log"
      value={typed}
      onChange={(event) => setTyped(event.target.value)}
      onKeyDown={(event) => {
        if (event.key !== "Enter" || typed === told.current) return;
        told.current = typed;
        change(typed);
      }}
    />
  );
}
