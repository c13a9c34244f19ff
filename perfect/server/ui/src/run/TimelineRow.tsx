import type { Task } from "../api/types";
import { duration, fullTime } from "../lib/format";
import { ofTask } from "../lib/progress";
import { elapsed, nameOf, unusual } from "../lib/tasks";
import { placeOf, type Span } from "../lib/timeline";
import { StateMark } from "../parts/State";
import type { Choose } from "./useChosenTask";

interface Given {
  task: Task;
  span: Span;
  now: number;
  top: number;
  height: number;
  /** Which row it is, of how many. */
  place: [number, number];
  chosen: boolean;
  choose: Choose;
}

export function TimelineRow({ task, span, now, top, height, place, chosen, choose }: Given) {
  const bar = placeOf(task, span, now);
  const slow = unusual(task, now);
  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents: the list takes the keys
    <div
      id={`task-${task.index}`}
      className="timeline-row"
      role="option"
      tabIndex={-1}
      aria-selected={chosen}
      aria-posinset={place[0]}
      aria-setsize={place[1]}
      style={{ height, transform: `translateY(${top}px)` }}
      title={titleOf(task)}
      onClick={() => choose(chosen ? null : task.index)}
    >
      <span className="timeline-name">
        <span>{task.taskName}</span>
        {task.mapIndex !== null && <b>&nbsp;[{task.mapIndex}]</b>}
      </span>
      <span className="timeline-state">
        <StateMark state={task.state} />
        {task.attempt > 1 && <span className="mono"> ×{task.attempt}</span>}
      </span>
      <span className="timeline-track">
        {bar !== null && (
          <>
            <i
              data-state={task.state}
              style={{ left: `${bar.at * 100}%`, width: `${bar.size * 100}%` }}
            />
            <span className="visually-hidden">
              began after {duration(bar.at * (span.to - span.from))},
            </span>
          </>
        )}
      </span>
      <span className="timeline-took mono">
        {slow && (
          <span className="slow" title={slowWords(task)}>
            <span aria-hidden="true">⚠</span> slow
          </span>
        )}
        {task.state === "RUNNING" && !slow && (
          <span className="timeline-percent">{Math.floor(ofTask(task, now))} %</span>
        )}
        <span>{tookOf(task, now)}</span>
        {task.state === "RUNNING" && task.estimatedTime > 0 && (
          <span className="quiet timeline-estimate" title="as long as it is expected to take">
            of ≈ {duration(task.estimatedTime)}
          </span>
        )}
      </span>
    </div>
  );
}

function slowWords(task: Task): string {
  // of one that is over, what is usual has changed by it
  return task.unusualAfterMs === null || task.state !== "RUNNING"
    ? "unusually slow"
    : `unusually slow: it usually takes less than ${duration(task.unusualAfterMs)}`;
}

function tookOf(task: Task, now: number): string {
  if (task.startTime !== null) return duration(elapsed(task, now));
  return task.state === "CANCELLED" ? "never started" : "–";
}

function titleOf(task: Task): string {
  const words = [nameOf(task)];
  words.push(task.startTime === null ? "never started" : `from ${fullTime(task.startTime)}`);
  if (task.endTime !== null) words.push(`to ${fullTime(task.endTime)}`);
  if (task.reason !== null) words.push(task.reason);
  return words.join("\n");
}
