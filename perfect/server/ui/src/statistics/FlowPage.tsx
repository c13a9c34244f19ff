import { useQuery } from "@tanstack/react-query";
import { Link, useLocation } from "wouter";
import { BASE } from "../api/client";
import { flows, statisticsOf, taskHistory } from "../api/queries";
import type { Statistics, TaskStatistics } from "../api/types";
import { duration, fullTime, time } from "../lib/format";
import { Answer } from "../parts/Answer";
import { useQueryString } from "../parts/search";
import { useTitle } from "../parts/title";
import { type Column, NUMBERS, Numbers } from "./Numbers";
import { TrendPanel } from "./TrendPanel";
import "./statistics.css";

/** How a flow has been doing. The name is read from the address itself: it may have slashes and percent signs. */
export function FlowPage() {
  useLocation();
  const name = decodeURIComponent(location.pathname.slice(`${BASE}/flows/`.length));
  return <Flow key={name} name={name} />;
}

function Flow({ name }: { name: string }) {
  useTitle(name);
  const found = useQuery(statisticsOf(name));
  const known = useQuery(flows).data?.find((flow) => flow.name === name);
  return (
    <div className="stack">
      <div className="head">
        <h1>{name}</h1>
        <span className="spacer" />
        <Link href={`/history?flow=${encodeURIComponent(name)}`} className="button">
          Its runs
        </Link>
        <Link href={`/?q=${encodeURIComponent(name)}`}>In the library</Link>
      </div>
      {known?.description && <p>{known.description}</p>}
      <Answer of={found}>
        {(statistics) => (
          <>
            <Figures of={statistics} lastRun={statistics.lastRun} />
            <TrendPanel
              title="Duration of its runs"
              history={statistics.history}
              average={statistics.sampleCount === 0 ? null : statistics.avgDurationMs}
              p95={statistics.p95DurationMs}
              empty="No run has ended yet."
            />
            <h2>Tasks</h2>
            {statistics.tasks.length === 0 ? (
              <p className="notice">No task has ended yet.</p>
            ) : (
              <Tasks flow={name} tasks={statistics.tasks} />
            )}
          </>
        )}
      </Answer>
    </div>
  );
}

function Figures({ of, lastRun }: { of: Statistics; lastRun: string | null }) {
  return (
    <dl className="figures">
      {NUMBERS.map(({ name, title, cell }) => (
        <div key={name} className="panel">
          <dt title={title}>{name}</dt>
          <dd>{cell(of)}</dd>
        </div>
      ))}
      <div className="panel">
        <dt>Last run</dt>
        <dd title={lastRun === null ? undefined : fullTime(lastRun)}>{time(lastRun)}</dd>
      </div>
    </dl>
  );
}

function Tasks({ flow, tasks }: { flow: string; tasks: TaskStatistics[] }) {
  const [path] = useLocation();
  const chosen = new URLSearchParams(useQueryString()).get("task");
  const task = tasks.find((one) => one.taskName === chosen);
  const first: Column<TaskStatistics> = {
    name: "Task",
    value: (one) => one.taskName,
    cell: (one) => (
      <Link
        href={`${path}?${new URLSearchParams({ task: one.taskName })}`}
        aria-current={one === task ? "true" : undefined}
        title="its durations over time"
      >
        {one.taskName}
      </Link>
    ),
  };
  return (
    <>
      {task !== undefined && <TaskTrend key={task.taskName} flow={flow} task={task} />}
      <Numbers label="tasks" rows={tasks} first={first} id={(one) => one.taskName} />
      {task === undefined && (
        <p className="quiet">The name of a task shows its durations over time.</p>
      )}
    </>
  );
}

function TaskTrend({ flow, task }: { flow: string; task: TaskStatistics }) {
  const found = useQuery(taskHistory(flow, task.taskName));
  return (
    <Answer of={found}>
      {({ history }) => (
        <TrendPanel
          title={`Duration of ${task.taskName}`}
          history={history}
          average={task.sampleCount === 0 ? null : task.avgDurationMs}
          p95={task.p95DurationMs}
          empty={`No task of that name has ended; average ${duration(task.avgDurationMs)}.`}
        />
      )}
    </Answer>
  );
}
