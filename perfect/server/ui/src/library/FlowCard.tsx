import { useMutation } from "@tanstack/react-query";
import { Link, useLocation } from "wouter";
import { ask } from "../api/client";
import type { Flow, LastRun } from "../api/types";
import { count, distance, duration, fullTime } from "../lib/format";
import { useNow } from "../lib/useNow";
import { useMayAct } from "../parts/access";
import { StateMark } from "../parts/State";
import { scheduleOf } from "./filter";

export function FlowCard({ flow, open }: { flow: Flow; open: () => void }) {
  const [, go] = useLocation();
  const run = useMutation({
    mutationFn: () =>
      ask<{ runId: string }>(`/api/engine/trigger/${encodeURIComponent(flow.id)}`, {
        method: "POST",
        body: {},
      }),
    onSuccess: ({ runId }) => go(`/runs/${runId}`),
  });
  const may = useMayAct();
  const now = useNow(5000);
  const asks = (flow.parameters?.required ?? []).length > 0;
  const when = scheduleOf(flow.schedule);
  return (
    <article className="panel card flow" aria-label={flow.name}>
      <div className="row top">
        <h2>{flow.name}</h2>
        <span className={flow.connected ? "connected" : "quiet"} title={`client ${flow.clientId}`}>
          <span aria-hidden="true">{flow.connected ? "●" : "○"}</span>{" "}
          {flow.connected ? "connected" : "no client"}
        </span>
      </div>
      {flow.description !== null && flow.description !== "" && <p>{flow.description}</p>}
      {Object.keys(flow.tags).length > 0 && (
        <div className="row">
          {Object.entries(flow.tags).map(([name, value]) => (
            <Link
              key={name}
              href={`/?tag=${encodeURIComponent(`${name}:${value}`)}`}
              className="tag"
            >
              {name}: {value}
            </Link>
          ))}
        </div>
      )}
      <Tasks flow={flow} />
      <dl className="flow-facts">
        <dt>client</dt>
        <dd>{flow.clientId}</dd>
        {when !== null && (
          <>
            <dt>schedule</dt>
            <dd>
              <span className="mono">{when}</span>{" "}
              {flow.nextFire === null ? (
                "paused"
              ) : (
                <span title={fullTime(flow.nextFire)}>next {distance(flow.nextFire, now)}</span>
              )}
            </dd>
          </>
        )}
        <dt>last run</dt>
        <dd>{flow.lastRun === null ? "never" : <Last run={flow.lastRun} now={now} />}</dd>
      </dl>
      <div className="row actions">
        {may && (
          <button
            type="button"
            disabled={run.isPending}
            aria-label={`Run ${flow.name}`}
            onClick={() => (asks ? open() : run.mutate())}
          >
            {asks ? "Run …" : "Run"}
          </button>
        )}
        {may && !asks && (
          <button
            type="button"
            className="plain"
            aria-label={`Run ${flow.name} with …`}
            onClick={open}
          >
            with …
          </button>
        )}
        <span className="spacer" />
        <Link
          href={`/history?flow=${encodeURIComponent(flow.name)}`}
          aria-label={`history of ${flow.name}`}
        >
          history
        </Link>
      </div>
      {run.error !== null && <p role="alert">{run.error.message}</p>}
    </article>
  );
}

function Tasks({ flow }: { flow: Flow }) {
  if (flow.tasks.length === 0) return <p className="quiet">tasks are known once it has run</p>;
  return (
    <details className="quiet">
      <summary>{count(flow.tasks.length, "task")}</summary>
      <ol>
        {flow.tasks.map((task) => (
          <li key={task.id}>
            {task.name}
            {task.estimatedTime > 0 && ` · ≈ ${duration(task.estimatedTime)}`}
            {task.description !== null && task.description !== "" && <div>{task.description}</div>}
          </li>
        ))}
      </ol>
    </details>
  );
}

function Last({ run, now }: { run: LastRun; now: number }) {
  const at = run.startTime ?? run.createdAt;
  return (
    <Link href={`/runs/${run.id}`} className="last">
      <StateMark state={run.state} cancelling={run.cancelling} />{" "}
      <span title={fullTime(at)}>{distance(at, Math.max(now, Date.parse(at)))}</span>
      {run.durationMs !== null && ` ·\u00a0${duration(run.durationMs)}`}
    </Link>
  );
}
