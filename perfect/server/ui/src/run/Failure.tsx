import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { useMemo } from "react";
import { task as taskQuery, tasks as tasksQuery } from "../api/queries";
import type { Run } from "../api/types";
import { firstFailed, nameOf } from "../lib/tasks";
import { ErrorBox } from "./ErrorBox";
import type { Choose } from "./useChosenTask";
import type { TasksOfRun } from "./useTasks";

/** Why a run did not succeed: its first error, and of which task it is. */
export function Failure({ run, tasks, choose }: { run: Run; tasks: TasksOfRun; choose: Choose }) {
  const known = useMemo(() => firstFailed(tasks.all), [tasks.all]);
  // Of a run whose tasks are not all here, the first in the order of their calls.
  const asked = useInfiniteQuery({
    ...tasksQuery(run.id, "state=FAILED", 1),
    enabled: tasks.partial && known === undefined,
  });
  const first = known ?? asked.data?.pages[0]?.tasks[0];
  const whole = useQuery({ ...taskQuery(run.id, first?.index ?? 0), enabled: first !== undefined });
  const failed = tasks.states.FAILED ?? 0;
  const error = (first === undefined ? null : whole.data?.error) ?? run.error;
  if (first === undefined && error === null) return null;
  return (
    <section className="panel error stack-small" aria-labelledby="failure-title">
      <h2 id="failure-title">
        {failed > 1 ? `First of ${failed.toLocaleString("en")} errors` : "Error"}
      </h2>
      {first !== undefined && (
        <p className="row">
          <span>
            in the task <b className="wrap">{nameOf(first)}</b>
            {first.attempt > 1 && `, attempt ${first.attempt}`}
          </span>
          <button type="button" onClick={() => choose(first.index)}>
            Show this task
          </button>
        </p>
      )}
      {error !== null && <ErrorBox error={error} />}
      {error === null && first?.reason != null && <p>{first.reason}</p>}
    </section>
  );
}
