import { useVirtualizer } from "@tanstack/react-virtual";
import { useMemo, useRef, useState } from "react";
import { cell, columnsOf, csv, inColumn, type Row, sorted } from "../lib/csv";
import { download } from "../lib/download";
import { count } from "../lib/format";

const HEIGHT = 32;

/** The table of a result: sortable, as a file, and with only the rows in sight. */
export function ResultTable({ rows, name }: { rows: Row[]; name: string }) {
  const columns = useMemo(() => columnsOf(rows), [rows]);
  const [by, sortBy] = useState<{ column: string; down: boolean } | null>(null);
  const shown = useMemo(() => (by === null ? rows : sorted(rows, by.column, by.down)), [rows, by]);
  const scroller = useRef<HTMLDivElement>(null);
  const virtual = useVirtualizer({
    count: shown.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => HEIGHT,
    overscan: 10,
  });
  const visible = virtual.getVirtualItems();
  const before = visible[0]?.start ?? 0;
  const after = virtual.getTotalSize() - (visible.at(-1)?.end ?? 0);
  const order = (column: string) =>
    by?.column !== column ? undefined : by.down ? "descending" : "ascending";
  return (
    <div className="stack-small">
      <div className="row">
        <span className="quiet">{count(rows.length, "row")}</span>
        <button
          type="button"
          onClick={() => download(`${name}.csv`, "text/csv", csv(columns, shown))}
        >
          Download CSV
        </button>
      </div>
      <section
        ref={scroller}
        className="result"
        aria-label="result table"
        // biome-ignore lint/a11y/noNoninteractiveTabindex: it is scrolled by keys
        tabIndex={0}
      >
        <table className="table" aria-rowcount={shown.length + 1}>
          <thead>
            <tr>
              {columns.map((column) => (
                <th key={column} scope="col" aria-sort={order(column)}>
                  <button
                    type="button"
                    className="plain"
                    onClick={() =>
                      sortBy({ column, down: by?.column === column ? !by.down : false })
                    }
                  >
                    {column}
                    <span aria-hidden="true">
                      {order(column) === undefined ? " ↕" : by?.down ? " ↓" : " ↑"}
                    </span>
                  </button>
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            <Gap height={before} />
            {visible.map(({ index }) => (
              <tr key={index} aria-rowindex={index + 2}>
                {columns.map((column) => (
                  <Cell key={column} value={inColumn(shown[index], column)} />
                ))}
              </tr>
            ))}
            <Gap height={after} />
          </tbody>
        </table>
      </section>
    </div>
  );
}

function Cell({ value }: { value: unknown }) {
  const text = cell(value);
  return (
    <td className={typeof value === "number" ? "number" : undefined} title={text}>
      {text}
    </td>
  );
}

/** The room of the rows that are out of sight. */
function Gap({ height }: { height: number }) {
  return height > 0 ? (
    <tr>
      <td style={{ height, padding: 0, border: 0 }} />
    </tr>
  ) : null;
}
