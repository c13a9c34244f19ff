import { Link } from "wouter";
import { type Run, TERMINAL } from "../api/types";
import { duration, fullTime, time } from "../lib/format";
import { useNow } from "../lib/useNow";
import { Progress } from "./Progress";
import { StateMark } from "./State";
import "./runtable.css";

/** Which rows are chosen, for a table whose rows can be. */
export interface Choice {
  has: (id: string) => boolean;
  /** @param range with all rows from the one chosen before. */
  toggle: (run: Run, range: boolean) => void;
  page: boolean | "some";
  togglePage: () => void;
}

/** Runs, one below the other; on a narrow screen as cards. */
export function RunTable({
  runs,
  label = "runs",
  choice,
}: {
  runs: readonly Run[];
  label?: string;
  choice?: Choice;
}) {
  const now = useNow(
    1000,
    runs.some((run) => !TERMINAL.has(run.state)),
  );
  return (
    <div className="panel runs">
      <table className="table" aria-label={label}>
        <thead>
          <tr>
            {choice !== undefined && (
              <th scope="col" className="check">
                <input
                  type="checkbox"
                  aria-label="all on this page"
                  checked={choice.page === true}
                  ref={(box) => {
                    if (box !== null) box.indeterminate = choice.page === "some";
                  }}
                  onChange={choice.togglePage}
                />
              </th>
            )}
            <th scope="col">Flow</th>
            <th scope="col">State</th>
            <th scope="col">Progress</th>
            <th scope="col">Started</th>
            <th scope="col" className="number">
              Took
            </th>
          </tr>
        </thead>
        <tbody>
          {runs.map((run) => (
            <Row key={run.id} run={run} choice={choice} now={now} />
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Row({ run, choice, now }: { run: Run; choice: Choice | undefined; now: number }) {
  const going = run.startTime !== null && !TERMINAL.has(run.state);
  const took = going ? Math.max(0, now - Date.parse(run.startTime ?? "")) : run.durationMs;
  const chosen = choice?.has(run.id) ?? false;
  const why = run.error === null ? run.reason : `${run.error.type}: ${run.error.message}`;
  return (
    <tr data-chosen={chosen}>
      {choice !== undefined && (
        <td className="check">
          <input
            type="checkbox"
            aria-label={`select ${run.flowName} ${run.id.slice(0, 8)}`}
            checked={chosen}
            // A change event does not say whether Shift is held; a click by keyboard has it, too.
            onClick={(event) => choice.toggle(run, event.shiftKey)}
            onChange={() => {}}
          />
        </td>
      )}
      <td className="name">
        <Link href={`/runs/${run.id}`}>{run.flowName}</Link>
        <div className="quiet about">
          <span className="mono">{run.id.slice(0, 8)}</span> · {run.configuration} · {run.clientId}
        </div>
        {why !== null && (
          <div className="quiet why" title={why}>
            {why}
          </div>
        )}
      </td>
      <td>
        <StateMark state={run.state} cancelling={run.cancelling} />
      </td>
      <td className="progress">
        <Progress
          value={run.progress}
          state={run.state}
          label={`progress of ${run.flowName} ${run.id.slice(0, 8)}`}
        />
      </td>
      <td className="when" title={fullTime(run.startTime ?? run.createdAt)}>
        {run.startTime === null ? `asked ${time(run.createdAt)}` : time(run.startTime)}
      </td>
      <td className="number">{duration(took)}</td>
    </tr>
  );
}
