import { useMutation, useQuery } from "@tanstack/react-query";
import { useMemo } from "react";
import { Link, useLocation } from "wouter";
import { ask } from "../api/client";
import { statisticsOf } from "../api/queries";
import { type Run, type Task, TERMINAL } from "../api/types";
import { count, duration, fullTime, time } from "../lib/format";
import { ofRun } from "../lib/progress";
import { useNow } from "../lib/useNow";
import { useMayAct } from "../parts/access";
import { Progress } from "../parts/Progress";
import { StateMark } from "../parts/State";

export function Header({ run, said, tasks }: { run: Run; said: number; tasks: Task[] }) {
  return (
    <header>
      <p className="quiet run-crumb">
        <Link href={`/flows/${encodeURIComponent(run.flowName)}`}>its flow</Link> ·{" "}
        <span className="mono" title={run.id}>
          {run.id.slice(0, 8)}
        </span>{" "}
        · <bdi>{run.configuration || "no configuration"}</bdi> · <bdi>{run.clientId}</bdi>
      </p>
      <div className="head run-head">
        <h1>{run.flowName}</h1>
        <StateMark state={run.state} cancelling={run.cancelling} />
        <span className="spacer" />
        <Actions run={run} />
      </div>
      <Live run={run} said={said} tasks={tasks} />
      {run.reason !== null && <p className="run-reason">{run.reason}</p>}
    </header>
  );
}

/** What moves while the run is under way. */
function Live({ run, said, tasks }: { run: Run; said: number; tasks: Task[] }) {
  const over = TERMINAL.has(run.state);
  const now = useNow(250, !over);
  const running = useMemo(() => tasks.filter((task) => task.state === "RUNNING"), [tasks]);
  // of a flow that nobody knows yet there are no statistics
  const known = useQuery({ ...statisticsOf(run.flowName), enabled: !over, retry: false }).data;
  const usual = over || !known?.sampleCount ? null : known.avgDurationMs;
  const took =
    run.startTime === null
      ? null
      : (run.durationMs ?? Math.max(0, now - Date.parse(run.startTime)));
  return (
    <div className="run-live">
      <Progress
        value={ofRun(run.state, run.progress, said, running, now)}
        state={run.state}
        label="progress of the run"
      />
      <p className="quiet run-times">
        {run.startTime === null ? (
          <span title={fullTime(run.createdAt)}>asked for {time(run.createdAt)}</span>
        ) : (
          <span title={fullTime(run.startTime)}>started {time(run.startTime)}</span>
        )}
        {run.endTime !== null && (
          <span title={fullTime(run.endTime)}>ended {time(run.endTime)}</span>
        )}
        {took !== null && (
          <span>
            {over ? "took" : "for"} <b className="mono">{duration(took)}</b>
            {usual !== null && ` of usually ${duration(usual)}`}
          </span>
        )}
        <span>{count(run.taskCount, "task")}</span>
      </p>
    </div>
  );
}

function Actions({ run }: { run: Run }) {
  const [, go] = useLocation();
  const may = useMayAct();
  const act = useMutation({
    mutationFn: (what: "cancel" | "retry") =>
      ask<{ runId?: string }>(`/api/runs/${encodeURIComponent(run.id)}/${what}`, {
        method: "POST",
        body: {},
      }),
    onSuccess: ({ runId }) => runId !== undefined && go(`/runs/${runId}`),
  });
  return (
    <div className="row">
      {run.reportPath !== null && (
        <a className="button" href={run.reportPath}>
          Report
        </a>
      )}
      {may && TERMINAL.has(run.state) && (
        <button
          type="button"
          className={run.state === "COMPLETED" ? "" : "primary"}
          onClick={() => act.mutate("retry")}
          disabled={act.isPending}
        >
          Run again
        </button>
      )}
      {may && TERMINAL.has(run.state) && run.flowId !== null && (
        <Link
          className="button"
          href={`/?run=${encodeURIComponent(run.flowId)}&from=${encodeURIComponent(run.id)}`}
        >
          Run again with …
        </Link>
      )}
      {may && !TERMINAL.has(run.state) && (
        <button
          type="button"
          className="danger"
          onClick={() => act.mutate("cancel")}
          disabled={act.isPending || run.cancelling}
        >
          {run.cancelling ? "Cancelling …" : "Cancel"}
        </button>
      )}
      {act.error !== null && <p role="alert">{act.error.message}</p>}
    </div>
  );
}
