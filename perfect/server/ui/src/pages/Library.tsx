import { useMutation, useQuery } from "@tanstack/react-query";
import { Link, useLocation } from "wouter";
import { ask } from "../api/client";
import { flows, runs } from "../api/queries";
import type { Flow } from "../api/types";
import { count, distance, fullTime } from "../lib/format";
import { Answer } from "../parts/Answer";
import { RunTable } from "../parts/RunTable";

export function Library() {
  const all = useQuery(flows);
  const live = useQuery(runs("state=RUNNING,RETRYING,PENDING&limit=50"));
  return (
    <div className="stack">
      <div className="head">
        <h1>Library</h1>
      </div>
      <Answer of={all}>
        {(found) => (found.length === 0 ? <FirstVisit /> : <Flows flows={found} />)}
      </Answer>
      <section aria-labelledby="live" className="stack">
        <h2 id="live">Live runs</h2>
        <Answer of={live}>
          {({ runs }) =>
            runs.length === 0 ? (
              <p className="notice">Nothing is running.</p>
            ) : (
              <RunTable runs={runs} />
            )
          }
        </Answer>
      </section>
    </div>
  );
}

function Flows({ flows }: { flows: Flow[] }) {
  return (
    <div className="cards">
      {flows.map((flow) => (
        <FlowCard key={flow.id} flow={flow} />
      ))}
    </div>
  );
}

function FlowCard({ flow }: { flow: Flow }) {
  const [, go] = useLocation();
  const run = useMutation({
    mutationFn: () =>
      ask<{ runId: string }>(`/api/engine/trigger/${encodeURIComponent(flow.id)}`, {
        method: "POST",
        body: {},
      }),
    onSuccess: ({ runId }) => go(`/runs/${runId}`),
  });
  return (
    <article className="panel card" aria-label={flow.name}>
      <div className="row">
        <h2>{flow.name}</h2>
        <span className="quiet">{flow.connected ? "● connected" : "○ no client"}</span>
      </div>
      {flow.description !== null && <p>{flow.description}</p>}
      <p className="quiet">
        {count(flow.tasks.length, "task")} · client {flow.clientId}
        {flow.nextFire !== null && (
          <>
            {" "}
            · <span title={fullTime(flow.nextFire)}>next {distance(flow.nextFire)}</span>
          </>
        )}
      </p>
      <div className="row">
        {Object.entries(flow.tags).map(([name, value]) => (
          <Link
            key={name}
            href={`/history?tag=${encodeURIComponent(`${name}:${value}`)}`}
            className="tag"
          >
            {name}: {value}
          </Link>
        ))}
      </div>
      <div className="row">
        <button type="button" disabled={run.isPending} onClick={() => run.mutate()}>
          Run
        </button>
        <Link href={`/history?flow=${encodeURIComponent(flow.name)}`}>history</Link>
      </div>
      {run.error !== null && <p role="alert">{run.error.message}</p>}
    </article>
  );
}

function FirstVisit() {
  return (
    <div className="notice stack">
      <p>No flows yet. Decorate a function, call it, and it is here:</p>
      <pre>{`from perfect import flow, task

@task
def hello():
    print("hello")

@flow
def first():
    hello()

first()`}</pre>
      <p>
        Or see the examples: <code>perfect demo</code>
      </p>
    </div>
  );
}
