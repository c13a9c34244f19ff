import { useQuery } from "@tanstack/react-query";
import { Link } from "wouter";
import { clients, runs } from "../api/queries";
import type { Client, Run, Session } from "../api/types";
import { count, distance, fullTime } from "../lib/format";
import { useNow } from "../lib/useNow";
import { Answer } from "../parts/Answer";
import { Find, has, useFind } from "../parts/Find";
import { Many } from "../parts/Many";
import { Progress } from "../parts/Progress";
import { useTitle } from "../parts/title";
import "./clients.css";

// ms: The stream tells who comes and goes and what they run, but not that somebody was heard of again: that would be an
// event for each heartbeat of everyone. So "last heard" is asked for, on this page only and while somebody looks at it.
const HEARD_EVERY = 5000;
const FLOWS_SHOWN = 8;
const RUNS_SHOWN = 10;

export function ClientsPage() {
  useTitle("Clients");
  const found = useQuery({ ...clients, refetchInterval: HEARD_EVERY });
  return (
    <div className="stack">
      <div className="head">
        <h1>Clients</h1>
        <span className="spacer" />
        <Find label="Find a client or flow" />
      </div>
      <Answer of={found}>{(all) => (all.length === 0 ? <Nobody /> : <All clients={all} />)}</Answer>
    </div>
  );
}

function Nobody() {
  return (
    <div className="notice stack">
      <p>
        Nobody is connected. A process that has called a flow is, as long as it lives; so is a
        worker:
      </p>
      <pre>{`from perfect import listen

listen(concurrency=4)  # every flow defined so far`}</pre>
    </div>
  );
}

function All({ clients }: { clients: Client[] }) {
  const text = useFind();
  const active = useQuery(runs("state=RUNNING,RETRYING&limit=200")).data?.runs ?? [];
  const known = new Map(active.map((run) => [run.id, run]));
  const now = useNow(1000);
  const shown = clients.filter((client) =>
    has(text, client.clientId, ...client.sessions.flatMap((session) => session.flows)),
  );
  if (shown.length === 0) return <p className="notice">No client or flow has “{text}” in it.</p>;
  return (
    <>
      <p className="quiet">
        {count(clients.length, "client")},{" "}
        {count(
          clients.reduce((sum, client) => sum + client.sessionCount, 0),
          "session",
        )}{" "}
        connected
      </p>
      <Many of={shown} step={20}>
        {(some) =>
          some.map((client) => (
            <OneClient key={client.clientId} client={client} known={known} now={now} />
          ))
        }
      </Many>
    </>
  );
}

function OneClient({
  client,
  known,
  now,
}: {
  client: Client;
  known: Map<string, Run>;
  now: number;
}) {
  const name = client.clientId || "(without a name)";
  return (
    <section className="stack" aria-label={`client ${name}`}>
      <div className="row">
        <h2 className="clients-name name">{name}</h2>
        <span className="quiet">{count(client.sessionCount, "session")}</span>
      </div>
      <Many of={client.sessions} step={20}>
        {(some) => (
          <div className="sessions">
            {some.map((session) => (
              <OneSession key={session.session} session={session} known={known} now={now} />
            ))}
          </div>
        )}
      </Many>
    </section>
  );
}

function OneSession({
  session,
  known,
  now,
}: {
  session: Session;
  known: Map<string, Run>;
  now: number;
}) {
  const hidden = session.activeRunCount - RUNS_SHOWN;
  return (
    <article className="panel card" aria-label={`session ${session.session}`}>
      <div className="row">
        <b className="agent">{session.agent ?? "no name of the program"}</b>
        <span className="quiet mono" title={session.session}>
          {session.session.slice(0, 8)}
        </span>
        {!session.native && <span className="tag">protocol of the first version</span>}
      </div>
      <dl className="session-facts">
        <dt>State</dt>
        <dd>{stateOf(session)}</dd>
        <dt>Since</dt>
        <dd title={fullTime(session.firstSeen)}>{distance(session.firstSeen, now)}</dd>
        <dt>Last heard</dt>
        <dd title={fullTime(session.lastSeen)}>
          {distance(session.lastSeen, Math.max(now, Date.parse(session.lastSeen)))}
        </dd>
        <dt>Slots</dt>
        <dd>
          {session.freeSlots === null || session.concurrency === null
            ? "it does not say"
            : `${session.freeSlots} of ${session.concurrency} free`}
        </dd>
        <dt>Flows</dt>
        <dd>
          <Flows session={session} />
        </dd>
        <dt>Runs</dt>
        <dd>
          {session.activeRuns.length === 0 ? (
            <span className="quiet">none right now</span>
          ) : (
            <ul className="bare">
              {session.activeRuns.slice(0, RUNS_SHOWN).map((id) => (
                <ActiveRun key={id} id={id} run={known.get(id)} />
              ))}
              {hidden > 0 && <li className="quiet">and {count(hidden, "other")}</li>}
            </ul>
          )}
        </dd>
      </dl>
    </article>
  );
}

function stateOf(session: Session): string {
  if (session.activeRunCount > 0) return "▶ running";
  return session.polling ? "● waits for work" : "○ connected";
}

function Flows({ session }: { session: Session }) {
  if (session.flows.length === 0) return <span className="quiet">none that it serves</span>;
  const hidden = session.flowCount - FLOWS_SHOWN;
  return (
    <span className="row">
      {session.flows.slice(0, FLOWS_SHOWN).map((name) => (
        <Link key={name} href={`/flows/${encodeURIComponent(name)}`} className="tag">
          {name}
        </Link>
      ))}
      {hidden > 0 && (
        <span className="quiet" title={session.flows.slice(FLOWS_SHOWN).join("\n")}>
          and {count(hidden, "other")}
        </span>
      )}
    </span>
  );
}

function ActiveRun({ id, run }: { id: string; run: Run | undefined }) {
  return (
    <li className="row">
      <Link href={`/runs/${id}`}>
        {run?.flowName ?? <span className="mono">{id.slice(0, 8)}</span>}
      </Link>
      {run !== undefined && (
        <Progress value={run.progress} state={run.state} label={`progress of ${run.flowName}`} />
      )}
    </li>
  );
}
