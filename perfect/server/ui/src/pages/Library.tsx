import { useQuery } from "@tanstack/react-query";
import { Link, useLocation } from "wouter";
import { flows, runs } from "../api/queries";
import { type Flow, TERMINAL } from "../api/types";
import { FirstVisit } from "../library/FirstVisit";
import { FlowList } from "../library/FlowList";
import { RunDialog } from "../library/RunDialog";
import { Answer } from "../parts/Answer";
import { useMayAct } from "../parts/access";
import { RunTable } from "../parts/RunTable";
import { useQueryString } from "../parts/search";
import { useTitle } from "../parts/title";
import "../library/library.css";

const MOST_LIVE = 50;
const LIVE = "state=RUNNING,RETRYING,PENDING";

/** The flows and what is running. `?run=<flow>` asks with what to run it, `&from=<run>` with the values of a run. */
export function Library() {
  useTitle("Library");
  const all = useQuery(flows);
  const may = useMayAct();
  const [, go] = useLocation();
  const chosen = new URLSearchParams(useQueryString());
  const wanted = chosen.get("run");
  const open = (flow: Flow | null) => {
    chosen.delete("from");
    if (flow === null) chosen.delete("run");
    else chosen.set("run", flow.id);
    go(chosen.size === 0 ? "/" : `/?${chosen}`, { replace: flow === null });
  };
  return (
    <div className="stack">
      <h1>Library</h1>
      {all.data?.length !== 0 && <Live />}
      <Answer of={all}>
        {(found) => {
          if (found.length === 0) return <FirstVisit />;
          const flow = found.find((one) => one.id === wanted || one.name === wanted);
          return (
            <section className="stack" aria-label="flows">
              {wanted !== null && flow === undefined && (
                <p role="alert">There is no flow {wanted} any more.</p>
              )}
              <FlowList flows={found} open={open} />
              {flow !== undefined && may && (
                <RunDialog
                  key={flow.id}
                  flow={flow}
                  from={chosen.get("from")}
                  close={() => open(null)}
                />
              )}
            </section>
          );
        }}
      </Answer>
    </div>
  );
}

function Live() {
  const live = useQuery(runs(`${LIVE}&limit=${MOST_LIVE}`));
  return (
    <section aria-labelledby="live" className="stack">
      <h2 id="live">Live runs</h2>
      <Answer of={live}>
        {({ runs, next }) => {
          const going = runs.filter((run) => !TERMINAL.has(run.state));
          if (going.length === 0) return <p className="notice still">Nothing is running.</p>;
          return (
            <>
              <RunTable runs={going} label="live runs" />
              {next !== null && (
                <Link href={`/history?${LIVE}`}>the newest {MOST_LIVE}; all of them</Link>
              )}
            </>
          );
        }}
      </Answer>
    </section>
  );
}
