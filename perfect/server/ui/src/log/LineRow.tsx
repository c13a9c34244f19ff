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
  const when = `${fullTime(line.time)}${name ? ` · ${name}` : ""}`;
  return (
    <div className="line" data-seq={line.seq} aria-current={chosen ? "location" : undefined}>
      <a
        className="line-number"
        href={`${location.pathname}${location.search}#L${line.seq}`}
        title={when}
        aria-label={`line ${line.seq}`}
        tabIndex={-1}
      >
        {line.seq}
      </a>
      <span className="line-time" title={when}>
        {clock(line.time)}
      </span>
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

/** The viewer's clock to the ms; by hand, for there are very many of them. */
function clock(iso: string): string {
  const at = new Date(iso);
  const two = (n: number) => String(n).padStart(2, "0");
  const ms = String(at.getMilliseconds()).padStart(3, "0");
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}.${ms}`;
}

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
