import { type ReactNode, useState } from "react";
import type { Statistics } from "../api/types";
import { duration } from "../lib/format";
import { sorted, type Value } from "../lib/sorted";
import { percent } from "../lib/trend";
import { Many } from "../parts/Many";

export interface Column<T> {
  name: string;
  /** In full, where the name is short. */
  title?: string;
  value: (row: T) => Value;
  cell: (row: T) => ReactNode;
}

const COUNTED = 10_000; // the backend counts no further
const AT_ONCE = 200;

export function counted(runs: number): string {
  return runs >= COUNTED ? `≥ ${COUNTED.toLocaleString("en")}` : runs.toLocaleString("en");
}

/** The numbers that flows and tasks have alike. */
export const NUMBERS: Column<Statistics>[] = [
  { name: "Runs", value: (row) => row.runs, cell: (row) => counted(row.runs) },
  {
    name: "Success",
    title: "completed, of those that completed or failed, among the newest 200 runs",
    value: (row) => row.successRate,
    cell: (row) => (
      <span title={`${row.completed} completed, ${row.failed} failed`}>
        {percent(row.successRate)}
      </span>
    ),
  },
  {
    name: "Average",
    value: (row) => known(row, row.avgDurationMs),
    cell: (row) => duration(known(row, row.avgDurationMs)),
  },
  {
    name: "σ",
    title: "standard deviation",
    value: (row) => spread(row),
    cell: (row) => duration(spread(row)),
  },
  {
    name: "p95",
    title: "95 of 100 took no longer, among the newest 200 runs",
    value: (row) => row.p95DurationMs,
    cell: (row) => duration(row.p95DurationMs),
  },
  {
    name: "Samples",
    title: "durations that average and σ are of",
    value: (row) => row.sampleCount,
    cell: (row) => row.sampleCount.toLocaleString("en"),
  },
];

function known(row: Statistics, value: number): number | null {
  return row.sampleCount === 0 ? null : value;
}

/** A single sample has no deviation. */
function spread(row: Statistics): number | null {
  return row.sampleCount < 2 ? null : row.stdDevDurationMs;
}

/** Rows with numbers, by any of their columns. */
export function Numbers<T extends Statistics>({
  label,
  rows,
  first,
  last = [],
  id,
}: {
  label: string;
  rows: readonly T[];
  first: Column<T>;
  last?: Column<T>[];
  id: (row: T) => string;
}) {
  const columns: Column<T>[] = [first, ...NUMBERS, ...last];
  const [by, setBy] = useState(first.name);
  const [descending, setDescending] = useState(false);
  const column = columns.find(({ name }) => name === by) ?? first;
  const choose = (name: string) => {
    // of numbers one looks for the largest
    setDescending(name === by ? !descending : name !== first.name);
    setBy(name);
  };
  return (
    <Many of={sorted(rows, column.value, descending)} step={AT_ONCE}>
      {(shown) => (
        <section className="panel scroll numbers" aria-label={label}>
          <table className="table">
            <thead>
              <tr>
                {columns.map(({ name, title }) => (
                  <th
                    key={name}
                    scope="col"
                    className={name === first.name ? undefined : "number"}
                    aria-sort={name !== by ? undefined : descending ? "descending" : "ascending"}
                  >
                    <button
                      type="button"
                      className="sort"
                      title={title}
                      onClick={() => choose(name)}
                    >
                      {name}
                      <span aria-hidden="true">{name !== by ? "" : descending ? " ↓" : " ↑"}</span>
                    </button>
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {shown.map((row) => (
                <tr key={id(row)}>
                  <th scope="row">{first.cell(row)}</th>
                  {columns.slice(1).map(({ name, cell }) => (
                    <td key={name} className="number" data-name={name}>
                      {cell(row)}
                    </td>
                  ))}
                </tr>
              ))}
            </tbody>
          </table>
        </section>
      )}
    </Many>
  );
}
