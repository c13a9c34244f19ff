import { lazy, Suspense } from "react";
import { Link } from "wouter";
import type { Ended } from "../api/types";
import { count, duration, fullTime, time } from "../lib/format";
import { trendOf } from "../lib/trend";
import { Many } from "../parts/Many";
import { StateMark } from "../parts/State";

// the charts' library comes when there is something to draw
const TrendChart = lazy(() => import("./TrendChart"));

/** Durations over time: as a chart, and the same numbers as a table. */
export function TrendPanel({
  title,
  history,
  average,
  p95,
  empty,
}: {
  title: string;
  history: Ended[];
  /** ms */
  average: number | null;
  /** ms */
  p95: number | null;
  empty: string;
}) {
  const trend = trendOf(history);
  return (
    <section className="panel stack" aria-label={title}>
      <h2>{title}</h2>
      {trend.times.length === 0 ? (
        <p className="quiet">{empty}</p>
      ) : (
        <>
          <Suspense fallback={<div className="trend quiet">Loading …</div>}>
            <TrendChart
              label={`${title}: ${count(trend.times.length, "duration")}, average ${duration(average)}, p95 ${duration(p95)}; the numbers are in the table below`}
              trend={trend}
              average={average}
              p95={p95}
            />
          </Suspense>
          <details>
            <summary>The same numbers as a table</summary>
            <Rows entries={trend.entries.toReversed()} />
          </details>
        </>
      )}
    </section>
  );
}

function Rows({ entries }: { entries: Ended[] }) {
  return (
    <Many of={entries} step={50}>
      {(shown) => (
        <div className="scroll">
          <table className="table">
            <thead>
              <tr>
                <th scope="col">Started</th>
                <th scope="col">State</th>
                <th scope="col" className="number">
                  Took
                </th>
              </tr>
            </thead>
            <tbody>
              {shown.map((one, at) => (
                // biome-ignore lint/suspicious/noArrayIndexKey: several tasks of one name may be of the same run
                <tr key={`${one.runId} ${at}`}>
                  <th scope="row">
                    <Link
                      href={`/runs/${one.runId}`}
                      title={one.startTime === null ? undefined : fullTime(one.startTime)}
                    >
                      {time(one.startTime)}
                    </Link>
                  </th>
                  <td>
                    <StateMark state={one.state} />
                  </td>
                  <td className="number">{duration(one.durationMs)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </Many>
  );
}
