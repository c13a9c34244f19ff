import { useMutation, useQueryClient } from "@tanstack/react-query";
import { Link } from "wouter";
import { ask } from "../api/client";
import type { Schedule, Slot } from "../api/types";
import { withSchedule } from "../lib/events";
import { distance, fullTime, time } from "../lib/format";
import { useMayAct } from "../parts/access";
import { StateMark } from "../parts/State";

const CATCHUP = {
  skip: "times that were missed are left out",
  latest: "of times that were missed the last is run",
  all: "times that were missed are all run",
} as const;
const OVERLAP = {
  allow: "runs may overlap",
  skip: "left out while the run before goes on",
} as const;

export function OneSchedule({ schedule, now }: { schedule: Schedule; now: number }) {
  const mayAct = useMayAct();
  const queries = useQueryClient();
  const pause = useMutation({
    mutationFn: (paused: boolean) =>
      ask<{ schedule: Schedule }>(`/api/schedules/${encodeURIComponent(schedule.id)}`, {
        method: "PATCH",
        body: { paused },
      }),
    onSuccess: ({ schedule }) =>
      queries.setQueryData<Schedule[]>(["schedules"], (old) =>
        old === undefined ? old : withSchedule(old, schedule),
      ),
  });
  const [next] = schedule.next;
  return (
    <article className="panel card" aria-label={`schedule of ${schedule.flowName}`}>
      <div className="row">
        <h2>
          <Link href={`/flows/${encodeURIComponent(schedule.flowName)}`}>{schedule.flowName}</Link>
        </h2>
        <span className="spacer" />
        {mayAct && (
          <button
            type="button"
            disabled={pause.isPending}
            onClick={() => pause.mutate(!schedule.paused)}
            aria-label={`${schedule.paused ? "resume" : "pause"} ${schedule.flowName}`}
          >
            {schedule.paused ? "Resume" : "Pause"}
          </button>
        )}
      </div>
      <p className="row">
        <code className="expression">{schedule.expression}</code>
        <span className="quiet">{schedule.timezone}</span>
        <span className="quiet">client {schedule.clientId}</span>
      </p>
      {pause.error !== null && <p role="alert">{pause.error.message}</p>}
      <p>
        {schedule.paused ? (
          <b>⏸ paused</b>
        ) : next === undefined ? (
          "no time is to come"
        ) : (
          <>
            <b title={fullTime(next)}>next {distance(next, now)}</b>
            <span className="quiet"> · {time(next, now)}</span>
          </>
        )}
      </p>
      {!schedule.paused && schedule.next.length > 1 && (
        <p className="quiet schedule-then">
          then
          {schedule.next.slice(1).map((at) => (
            <span key={at} className="mono" title={fullTime(at)}>
              {time(at, now)}
            </span>
          ))}
        </p>
      )}
      <Slots slots={schedule.slots} now={now} />
      <details>
        <summary>How it is run</summary>
        <ul className="how">
          <li>
            configuration <b>{schedule.configuration}</b>
          </li>
          <li>{CATCHUP[schedule.catchup]}</li>
          <li>{OVERLAP[schedule.overlap]}</li>
        </ul>
        {schedule.parameters === null ? (
          <p className="quiet">without parameters</p>
        ) : (
          <pre>{JSON.stringify(schedule.parameters, null, 2)}</pre>
        )}
      </details>
    </article>
  );
}

function Slots({ slots, now }: { slots: Slot[]; now: number }) {
  if (slots.length === 0) return <p className="quiet">It has not been due yet.</p>;
  return (
    <table className="table" aria-label="its last times">
      <tbody>
        {slots.map((slot) => (
          <tr key={slot.slot}>
            <th scope="row" title={fullTime(slot.slot)}>
              {time(slot.slot, now)}
            </th>
            <td>
              <Outcome slot={slot} />
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function Outcome({ slot }: { slot: Slot }) {
  if (slot.runId !== null) {
    return (
      <Link href={`/runs/${slot.runId}`} className="outcome">
        {slot.state === null ? "its run" : <StateMark state={slot.state} />}
      </Link>
    );
  }
  return (
    <span className="quiet">
      {slot.reason === null ? "its run was deleted" : `↷ ${slot.reason}`}
    </span>
  );
}
