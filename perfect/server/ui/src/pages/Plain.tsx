import { useQuery } from "@tanstack/react-query";
import { clients, schedules } from "../api/queries";
import { count, distance } from "../lib/format";
import { Answer } from "../parts/Answer";

export function Clients() {
  const found = useQuery(clients);
  return (
    <div className="stack">
      <h1>Clients</h1>
      <Answer of={found}>
        {(all) =>
          all.length === 0 ? (
            <p className="notice">Nobody is connected.</p>
          ) : (
            all.map((client) => (
              <section key={client.clientId} className="panel">
                <h2>{client.clientId}</h2>
                <p className="quiet">{count(client.sessionCount, "session")}</p>
              </section>
            ))
          )
        }
      </Answer>
    </div>
  );
}

export function Schedules() {
  const found = useQuery(schedules);
  return (
    <div className="stack">
      <h1>Schedules</h1>
      <Answer of={found}>
        {(all) =>
          all.length === 0 ? (
            <p className="notice">No flow has a schedule.</p>
          ) : (
            all.map((one) => (
              <section key={one.id} className="panel">
                <h2>{one.flowName}</h2>
                <p className="quiet">
                  {one.expression} {one.timezone} ·{" "}
                  {one.paused || one.next[0] === undefined ? "paused" : distance(one.next[0])}
                </p>
              </section>
            ))
          )
        }
      </Answer>
    </div>
  );
}
