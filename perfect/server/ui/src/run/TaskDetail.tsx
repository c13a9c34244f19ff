import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { task as taskQuery } from "../api/queries";
import type { Attempt, Run, Task, WholeTask } from "../api/types";
import { duration, fullTime, time } from "../lib/format";
import { ofTask } from "../lib/progress";
import { elapsed, nameOf, unusual } from "../lib/tasks";
import { useNow } from "../lib/useNow";
import { Answer } from "../parts/Answer";
import { Progress } from "../parts/Progress";
import { StateMark } from "../parts/State";
import { ErrorBox } from "./ErrorBox";
import { ResultTable } from "./ResultTable";

/**
 * One task: where it stands, its attempts, and what it gave back.
 *
 * @param brief what the list knows of it already.
 */
export function TaskDetail({
  run,
  index,
  brief,
  close,
}: {
  run: Run;
  index: number;
  brief: Task | undefined;
  close: () => void;
}) {
  const found = useQuery(taskQuery(run.id, index));
  const shown = brief ?? found.data;
  return (
    <section className="panel stack-small task-detail" aria-labelledby="task-title">
      <div className="row">
        <h3 id="task-title" className="wrap">
          {shown === undefined ? `Task ${index + 1}` : nameOf(shown)}
        </h3>
        {shown !== undefined && <StateMark state={shown.state} />}
        <span className="spacer" />
        <button type="button" onClick={close}>
          Close
        </button>
      </div>
      {shown !== undefined && <Standing task={shown} />}
      <Answer of={found}>{(task) => <Outcome key={index} task={task} />}</Answer>
    </section>
  );
}

function Standing({ task }: { task: Task }) {
  const now = useNow(250, task.state === "RUNNING");
  const slow = unusual(task, now);
  return (
    <>
      {task.state === "RUNNING" && (
        <Progress value={ofTask(task, now)} state={task.state} label="progress of the task" />
      )}
      {slow && (
        <p className="slow">
          ⚠ unusually slow
          {task.state === "RUNNING" &&
            task.unusualAfterMs !== null &&
            `: it usually takes less than ${duration(task.unusualAfterMs)}`}
        </p>
      )}
      <p className="quiet run-times">
        {task.startTime === null ? (
          <span>never started</span>
        ) : (
          <>
            <span title={fullTime(task.startTime)}>started {time(task.startTime)}</span>
            <span>
              {task.state === "RUNNING" ? "for" : "took"}{" "}
              <b className="mono">{duration(elapsed(task, now))}</b>
            </span>
          </>
        )}
        <span>estimate {duration(task.estimatedTime)}</span>
        {task.mapIndex !== null && <span>element {task.mapIndex} of a mapped task</span>}
        {task.attempt > 1 && <span>attempt {task.attempt}</span>}
        {!task.crucialPass && <span>not crucial: the run may go on without it</span>}
      </p>
      {task.reason !== null && <p>{task.reason}</p>}
    </>
  );
}

/** An attempt, or its latest: result and error. */
function Outcome({ task }: { task: WholeTask }) {
  const [picked, pick] = useState<number | null>(null);
  const earlier = task.attempts.find((one) => one.attempt === picked);
  return (
    <>
      {task.attempts.length > 0 && (
        <fieldset className="switch">
          <legend>Attempts</legend>
          {task.attempts.map((one) => (
            <button
              key={one.attempt}
              type="button"
              aria-pressed={earlier === one}
              onClick={() => pick(one.attempt)}
            >
              {one.attempt}
            </button>
          ))}
          <button type="button" aria-pressed={earlier === undefined} onClick={() => pick(null)}>
            {task.state === "RETRYING" ? "next" : task.attempt} (latest)
          </button>
        </fieldset>
      )}
      {earlier !== undefined ? <Earlier attempt={earlier} /> : <Latest task={task} />}
    </>
  );
}

function Earlier({ attempt }: { attempt: Attempt }) {
  return (
    <>
      <p className="quiet run-times">
        {attempt.startTime !== null && (
          <span title={fullTime(attempt.startTime)}>started {time(attempt.startTime)}</span>
        )}
        <span>
          took <b className="mono">{duration(attempt.durationMs)}</b>
        </span>
        {attempt.worker !== null && <span>on {attempt.worker}</span>}
      </p>
      {attempt.reason !== null && <p>{attempt.reason}</p>}
      {attempt.error !== null ? (
        <ErrorBox error={attempt.error} />
      ) : (
        <p className="quiet">This attempt left no error.</p>
      )}
    </>
  );
}

function Latest({ task }: { task: WholeTask }) {
  return (
    <>
      {task.error !== null && <ErrorBox error={task.error} />}
      {task.result !== null && (
        <>
          {task.result.passed === false && (
            <p className="state" data-state="FAILED">
              ✗ not passed
            </p>
          )}
          {task.result.note != null && task.result.note !== "" && (
            <p className="note">{task.result.note}</p>
          )}
          {Array.isArray(task.result.table) && task.result.table.length > 0 && (
            <ResultTable rows={task.result.table} name={nameOf(task)} />
          )}
        </>
      )}
    </>
  );
}
