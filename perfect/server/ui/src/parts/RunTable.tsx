import { Link } from "wouter";
import type { Run } from "../api/types";
import { duration, fullTime, time } from "../lib/format";
import { Progress } from "./Progress";
import { StateMark } from "./State";

export function RunTable({ runs }: { runs: Run[] }) {
  return (
    <div className="panel scroll">
      <table className="table">
        <thead>
          <tr>
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
            <tr key={run.id}>
              <td>
                <Link href={`/runs/${run.id}`}>{run.flowName}</Link>
              </td>
              <td>
                <StateMark state={run.state} cancelling={run.cancelling} />
              </td>
              <td>
                <Progress
                  value={run.progress}
                  state={run.state}
                  label={`progress of ${run.flowName}`}
                />
              </td>
              <td title={run.startTime === null ? undefined : fullTime(run.startTime)}>
                {time(run.startTime)}
              </td>
              <td className="number">{duration(run.durationMs)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
