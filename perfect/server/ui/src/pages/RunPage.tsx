import { useMutation, useQuery } from "@tanstack/react-query";
import { useEffect } from "react";
import { useLocation } from "wouter";
import { ask, BASE } from "../api/client";
import { lines, run as runQuery } from "../api/queries";
import { type Task, TERMINAL, type WholeRun } from "../api/types";
import { feed } from "../feed";
import { duration, fullTime } from "../lib/format";
import { Answer } from "../parts/Answer";
import { Progress } from "../parts/Progress";
import { StateMark } from "../parts/State";

export function RunPage({ id }: { id: string }) {
  useEffect(() => {
    feed.follow(id);
    return () => feed.follow(null);
  }, [id]);
  const found = useQuery(runQuery(id));
  return <Answer of={found}>{(run) => <Whole run={run} />}</Answer>;
}

function Whole({ run }: { run: WholeRun }) {
  const [, go] = useLocation();
  const act = useMutation({
    mutationFn: (what: "cancel" | "retry") =>
      ask<{ runId?: string }>(`/api/runs/${run.id}/${what}`, { method: "POST", body: {} }),
    onSuccess: ({ runId }) => runId !== undefined && go(`/runs/${runId}`),
  });
  const over = TERMINAL.has(run.state);
  return (
    <div className="stack">
      <div className="head">
        <h1>{run.flowName}</h1>
        <StateMark state={run.state} cancelling={run.cancelling} />
        <span className="spacer" />
        <a href={`${BASE}${run.reportPath}`}>report</a>
        {over ? (
          <button type="button" onClick={() => act.mutate("retry")} disabled={act.isPending}>
            Run again
          </button>
        ) : (
          <button
            type="button"
            className="danger"
            onClick={() => act.mutate("cancel")}
            disabled={act.isPending || run.cancelling}
          >
            Cancel
          </button>
        )}
      </div>
      {act.error !== null && <p role="alert">{act.error.message}</p>}
      <Progress value={run.progress} state={run.state} label="progress of the run" />
      {run.error !== null && (
        <details open className="panel error">
          <summary>
            {run.error.type}: {run.error.message}
          </summary>
          <pre>{run.error.traceback}</pre>
        </details>
      )}
      {run.reason !== null && <p className="quiet">{run.reason}</p>}
      <p className="quiet">
        {run.startTime !== null && fullTime(run.startTime)} · {duration(run.durationMs)} ·{" "}
        {run.configuration} · client {run.clientId}
      </p>
      <Tasks tasks={run.tasks} />
      <Log id={run.id} />
    </div>
  );
}

function Tasks({ tasks }: { tasks: Task[] }) {
  if (tasks.length === 0) return <p className="notice">No tasks yet.</p>;
  return (
    <div className="panel scroll">
      <table className="table">
        <thead>
          <tr>
            <th scope="col">Task</th>
            <th scope="col">State</th>
            <th scope="col">Progress</th>
            <th scope="col" className="number">
              Took
            </th>
          </tr>
        </thead>
        <tbody>
          {tasks.map((task) => (
            <tr key={task.index}>
              <td>{task.taskName}</td>
              <td>
                <StateMark state={task.state} />
              </td>
              <td>
                <Progress
                  value={task.progress}
                  state={task.state}
                  label={`progress of ${task.taskName}`}
                />
              </td>
              <td className="number">{duration(task.durationMs)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Log({ id }: { id: string }) {
  const found = useQuery(lines(id, "limit=500"));
  return (
    <Answer of={found}>
      {({ logs }) =>
        logs.length === 0 ? (
          <p className="notice">No lines yet.</p>
        ) : (
          <pre className="panel">{logs.map((line) => `${line.text}\n`)}</pre>
        )
      }
    </Answer>
  );
}
