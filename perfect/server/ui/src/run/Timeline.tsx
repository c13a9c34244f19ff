import { useVirtualizer } from "@tanstack/react-virtual";
import { type KeyboardEvent, useEffect, useMemo, useRef } from "react";
import { type Run, type Task, TERMINAL } from "../api/types";
import { fullTime } from "../lib/format";
import { firstFailed } from "../lib/tasks";
import { type Span, spanOf, tickLabel, ticks } from "../lib/timeline";
import { useNow } from "../lib/useNow";
import { useWide } from "../lib/useWide";
import { TimelineRow } from "./TimelineRow";
import "./timeline.css";
import type { Choose } from "./useChosenTask";

// px; heights of the axis and of rows
const AXIS = 26;
const WIDE = 32;
const NARROW = 50;
// how many rows before its end a list is continued
const AHEAD = 50;

interface Given {
  run: Run;
  tasks: Task[];
  chosen: number | null;
  choose: Choose;
  /** Which tasks these are, and in which order: with others the list begins at its top. */
  choice: string;
  /** Whether they are shown from their end. */
  atEnd: boolean;
  /** The end of the list is near. */
  end: () => void;
}

/** Tasks one below the other, each where and as long as it ran. Only the rows in sight are there. */
export function Timeline({ run, tasks, chosen, choose, choice, atEnd, end }: Given) {
  const now = useNow(250, !TERMINAL.has(run.state));
  const bounds = useMemo(
    () => spanOf(tasks, run.startTime, run.endTime, 0),
    [tasks, run.startTime, run.endTime],
  );
  const span: Span = run.endTime === null ? { ...bounds, to: Math.max(bounds.to, now) } : bounds;
  const scroller = useRef<HTMLDivElement>(null);
  const wide = useWide();
  const height = wide ? WIDE : NARROW;
  const rows = useVirtualizer({
    count: tasks.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => height,
    overscan: 8,
    scrollMargin: AXIS,
    scrollPaddingStart: AXIS,
  });
  const measure = rows.measure;
  // biome-ignore lint/correctness/useExhaustiveDependencies: rows are of another height now
  useEffect(() => measure(), [measure, height]);
  const visible = rows.getVirtualItems();
  const last = visible.at(-1)?.index ?? 0;
  useEffect(() => {
    if (last >= tasks.length - AHEAD) end();
  });
  useFailureInSight(run, tasks, (at) => rows.scrollToIndex(at, { align: "center" }));
  const shownChoice = useRef<string | null>(null);
  useEffect(() => {
    if (shownChoice.current === choice) return;
    if (atEnd) rows.scrollToIndex(tasks.length - 1);
    else if (shownChoice.current !== null) rows.scrollToOffset(0);
    shownChoice.current = choice;
  }, [choice, atEnd, tasks.length, rows]);
  const active = visible.some((row) => tasks[row.index]?.index === chosen);

  const onKeyDown = (event: KeyboardEvent) => {
    const at = tasks.findIndex((task) => task.index === chosen);
    const to = target(event.key, at, tasks.length);
    const task = to === null ? undefined : tasks[to];
    if (to === null || task === undefined) return;
    event.preventDefault();
    choose(task.index);
    rows.scrollToIndex(to);
  };

  return (
    <div className="panel timeline">
      <div
        ref={scroller}
        className="timeline-rows"
        role="listbox"
        tabIndex={0}
        aria-label={`${tasks.length} tasks`}
        aria-activedescendant={active ? `task-${chosen}` : undefined}
        onKeyDown={onKeyDown}
      >
        <Axis span={span} wide={wide} />
        <div className="timeline-all" style={{ height: tasks.length * height }} role="presentation">
          {visible.map((row) => {
            const task = tasks[row.index];
            return (
              task !== undefined && (
                <TimelineRow
                  key={task.index}
                  top={row.start - AXIS}
                  height={height}
                  place={[row.index + 1, tasks.length]}
                  chosen={task.index === chosen}
                  {...{ task, span, now, choose }}
                />
              )
            );
          })}
        </div>
      </div>
    </div>
  );
}

function Axis({ span, wide }: { span: Span; wide: boolean }) {
  const length = span.to - span.from;
  return (
    <div
      className="timeline-axis"
      style={{ height: AXIS }}
      aria-hidden="true"
      title={`from ${fullTime(new Date(span.from).toISOString())}`}
    >
      <div>
        {ticks(length, wide ? 6 : 2)
          // the last would stand out
          .filter((ms) => ms <= 0.9 * length)
          .map((ms) => (
            <span key={ms} style={{ left: `${(ms / length) * 100}%` }}>
              {tickLabel(ms)}
            </span>
          ))}
      </div>
    </div>
  );
}

/** A failed run opens with its first failed task in sight. */
function useFailureInSight(run: Run, tasks: Task[], show: (at: number) => void): void {
  const done = useRef(false);
  useEffect(() => {
    if (done.current || run.state !== "FAILED") return;
    done.current = true;
    const failed = firstFailed(tasks);
    if (failed !== undefined) show(tasks.indexOf(failed));
  });
}

/** Where a key leads from a row; null where it leads nowhere. */
function target(key: string, at: number, count: number): number | null {
  const moves: Record<string, number> = {
    ArrowDown: at + 1,
    ArrowUp: at < 0 ? 0 : at - 1,
    PageDown: at + 10,
    PageUp: at - 10,
    Home: 0,
    End: count - 1,
  };
  const to = moves[key];
  return to === undefined ? null : Math.min(count - 1, Math.max(0, to));
}
