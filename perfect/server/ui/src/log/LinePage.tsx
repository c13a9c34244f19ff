import { memo } from "react";
import type { Line } from "../api/types";
import { LineRow } from "./LineRow";

/**
 * Some lines, one after the other.
 *
 * @param names of the tasks, by index; none where all lines are of one.
 * @param target sequence number of the line that the address names.
 */
export const LinePage = memo(function LinePage({
  lines,
  names,
  word,
  target,
}: {
  lines: readonly Line[];
  names: string[];
  word: string;
  target: number | null;
}) {
  return lines.map((line) => (
    <LineRow
      key={line.seq}
      line={line}
      name={names.length === 0 ? null : nameOf(names, line.task)}
      word={word}
      chosen={line.seq === target}
    />
  ));
});

function nameOf(names: string[], task: number | null): string {
  return task === null ? "" : (names[task] ?? `task ${task}`);
}
