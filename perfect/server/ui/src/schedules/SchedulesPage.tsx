import { useQuery } from "@tanstack/react-query";
import { schedules } from "../api/queries";
import type { Schedule } from "../api/types";
import { useNow } from "../lib/useNow";
import { Answer } from "../parts/Answer";
import { Find, has, useFind } from "../parts/Find";
import { Many } from "../parts/Many";
import { useTitle } from "../parts/title";
import { OneSchedule } from "./OneSchedule";
import "./schedules.css";

export function SchedulesPage() {
  useTitle("Schedules");
  const found = useQuery(schedules);
  return (
    <div className="stack">
      <div className="head">
        <h1>Schedules</h1>
        <span className="spacer" />
        <Find label="Find a flow" />
      </div>
      <Answer of={found}>{(all) => (all.length === 0 ? <None /> : <All schedules={all} />)}</Answer>
    </div>
  );
}

function None() {
  return (
    <div className="notice stack">
      <p>No flow has a schedule. A flow says itself when it is to run:</p>
      <pre>{`from perfect import CronSchedule, flow, listen

@flow(schedule=CronSchedule("0 3 * * *"))  # every night at three
def nightly(): ...

listen()`}</pre>
    </div>
  );
}

function All({ schedules }: { schedules: Schedule[] }) {
  const text = useFind();
  const now = useNow(1000);
  const shown = schedules.filter((one) => has(text, one.flowName, one.clientId, one.expression));
  if (shown.length === 0) return <p className="notice">No flow has “{text}” in its name.</p>;
  return (
    <Many of={shown} step={50}>
      {(some) => (
        <div className="schedules">
          {some.map((one) => (
            <OneSchedule key={one.id} schedule={one} now={now} />
          ))}
        </div>
      )}
    </Many>
  );
}
