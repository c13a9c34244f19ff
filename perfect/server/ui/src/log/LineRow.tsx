import { type CSSProperties, memo } from "react";
import type { Line } from "../api/types";
import { type Piece, parse } from "../lib/ansi";
import { fullTime } from "../lib/format";
import { marked } from "../lib/marks";

// Not an object: a client may call a level "constructor".
const MARKS = new Map([
  ["DEBUG", "debug"],
  ["WARNING", "warn"],
  ["ERROR", "error"],
  ["CRITICAL", "critical"],
]);

/**
 * @param name of the task; null where all lines are of one.
 * @param word to be marked.
 */
export const LineRow = memo(function LineRow({
  line,
  name,
  word,
  chosen,
}: {
  line: Line;
  name: string | null;
  word: string;
  chosen: boolean;
}) {
  const mark = MARKS.get(line.level) ?? (line.stream === "stderr" ? "stderr" : null);
  return (
    <div className="line" data-seq={line.seq} aria-current={chosen ? "location" : undefined}>
      <a
        className="line-number"
        href={`${location.pathname}${location.search}#L${line.seq}`}
        title={`${fullTime(line.time)}${name ? ` · ${name}` : ""}`}
        aria-label={`line ${line.seq}`}
        tabIndex={-1}
      >
        {line.seq}
      </a>
      {name !== null && (
        <span className="line-task" title={name}>
          {name}
        </span>
      )}
      <span className="line-text">
        {mark !== null && (
          <>
            <span className="line-mark" data-mark={mark}>
              {mark}
            </span>{" "}
          </>
        )}
        {marked(parse(line.text), word).map(part)}
      </span>
    </div>
  );
});

function part(piece: Piece, at: number) {
  const Tag = piece.hit ? "mark" : "span";
  if (!piece.hit && piece.look === "" && !piece.color && !piece.background) return piece.text;
  const own = `${piece.color ? " fg-own" : ""}${piece.background ? " bg-own" : ""}`;
  const colours = { "--color": piece.color, "--ground-color": piece.background } as CSSProperties;
  return (
    // pieces have no other name, and never move
    <Tag key={at} className={piece.look + own} style={own === "" ? undefined : colours}>
      {piece.text}
    </Tag>
  );
}
