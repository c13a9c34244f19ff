import { lazy, Suspense, useDeferredValue, useMemo, useState } from "react";
import { type Run, type State, TERMINAL } from "../api/types";
import { count } from "../lib/format";
import { graphOf, isGraph } from "../lib/graph";
import { chosen as chosenOf, type Order } from "../lib/tasks";
import { useNow } from "../lib/useNow";
import { TaskDetail } from "./TaskDetail";
import { Timeline } from "./Timeline";
import { Toolbar, type View } from "./Toolbar";
import type { Choose } from "./useChosenTask";
import { type TasksOfRun, useLastTasks, useTasks } from "./useTasks";

const GraphView = lazy(() => import("./GraphView"));
const MOST_NODES = 500;

interface Given {
  run: Run;
  tasks: TasksOfRun;
  chosen: number | null;
  choose: Choose;
}

export function TaskSection({ run, tasks, chosen, choose }: Given) {
  const [states, setStates] = useState<ReadonlySet<State>>(new Set());
  const [text, setText] = useState("");
  const [order, setOrder] = useState<Order>("called");
  const [view, setView] = useState<View>("timeline");
  const graph = useMemo(() => !tasks.partial && isGraph(tasks.all), [tasks.all, tasks.partial]);
  const quick = useDeferredValue(text);
  // Of very many tasks the backend finds those that are wanted.
  const search = tasks.partial ? searchOf(states, quick) : "";
  const found = useTasks(run, search, search !== "");
  const [total, setTotal] = useState<number | null>(null);
  const last = useLastTasks(run, total);
  const atEnd = search === "" && total !== null;
  const source = search !== "" ? found : atEnd ? last : tasks;
  const second = useNow(1000, !TERMINAL.has(run.state) && order === "longest");
  const shown = useMemo(
    () => chosenOf(source.all, { states, text: quick, order }, second),
    [source.all, states, quick, order, second],
  );
  const picked = useMemo(
    () => (chosen === null ? undefined : tasks.all.find((task) => task.index === chosen)),
    [tasks.all, chosen],
  );
  return (
    <section className="stack-small" aria-labelledby="tasks-title">
      <h2 id="tasks-title">Tasks</h2>
      <Toolbar
        counts={tasks.states}
        {...{ states, setStates, text, setText, order, setOrder, view, setView, graph }}
      />
      {graph && view === "graph" ? (
        <GraphPanel tasks={tasks} chosen={chosen} choose={choose} />
      ) : shown.length > 0 ? (
        <Timeline
          run={run}
          tasks={shown}
          chosen={chosen}
          choose={choose}
          choice={`${order} ${atEnd} ${searchOf(states, quick)}`}
          atEnd={atEnd && order === "called"}
          end={source.more}
        />
      ) : (
        <p className="notice">{emptyWord(run, source, tasks)}</p>
      )}
      {view === "timeline" && (source.partial || atEnd) && shown.length > 0 && (
        <p className="row quiet">
          {atEnd
            ? `The last ${count(source.all.length, "task")} of ${run.taskCount.toLocaleString("en")}.`
            : `${count(shown.length, "task")} are read so far; the next ones come at the end of the list.`}
          {search === "" && (
            <button type="button" onClick={() => setTotal(atEnd ? null : run.taskCount)}>
              {atEnd ? "To the first tasks" : "To the last tasks"}
            </button>
          )}
        </p>
      )}
      {chosen !== null && (
        <TaskDetail run={run} index={chosen} brief={picked} close={() => choose(null)} />
      )}
    </section>
  );
}

function GraphPanel({ tasks, chosen, choose }: Omit<Given, "run">) {
  const graph = useMemo(() => graphOf(tasks.all), [tasks.all]);
  if (graph.nodes.length > MOST_NODES) {
    return (
      <p className="notice">
        This graph has {graph.nodes.length.toLocaleString("en")} nodes, more than a picture can
        show. The timeline has them all.
      </p>
    );
  }
  return (
    <Suspense fallback={<p className="quiet">Drawing …</p>}>
      <GraphView graph={graph} chosen={chosen} choose={choose} />
    </Suspense>
  );
}

function searchOf(states: ReadonlySet<State>, text: string): string {
  const search = new URLSearchParams();
  if (states.size > 0) search.set("state", [...states].join(","));
  if (text.trim() !== "") search.set("q", text.trim());
  return search.toString();
}

function emptyWord(run: Run, source: TasksOfRun, tasks: TasksOfRun): string {
  if (source.error !== null) return source.error.message;
  if (source.loading && source.all.length === 0) return "Loading …";
  if (tasks.all.length > 0) return "No task matches. Take away a filter to see more.";
  return TERMINAL.has(run.state)
    ? "This run called no tasks."
    : "No tasks yet: they appear as the flow calls them.";
}
